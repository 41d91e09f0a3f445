"""An encoder and a decoder of BERT's line, joined (transformers EncoderDecoderModel)."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Named, Part
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import architecture
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.families import MODULES, family

CROSSING = ("bert", "roberta", "xlm-roberta", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert",
            "roberta-prelayernorm", "roc_bert", "xlm-roberta-xl")  # fmt: skip


def encoder_decoder(c: Config) -> Architecture:
    """The encoder keeps its pooler; its states are projected where the decoder has another width."""
    encoder, source = _read(c, "encoder", "Model")
    decoder, target = _read(c, "decoder", "LMHeadModel", is_decoder=True, add_cross_attention=True)
    (first,), (second,) = encoder.parts, decoder.parts
    wide, narrow = source.integer("hidden_size"), target.integer("hidden_size")
    into: Named = ()
    if wide != narrow:
        if target.has("cross_attention_hidden_size"):
            raise target.error(
                "cross_attention_hidden_size", "must be null: a decoder that reads another width is not modelled"
            )
        into = (("encoder_projection", Projection(wide, narrow, bias=True)),)
    stacks = tuple(
        replace(stack, layers=tuple(replace(layer, source=True) for layer in stack.layers)) for stack in first.stacks
    )
    parts: tuple[Part, ...] = (
        replace(first, name="encoder", stacks=stacks, exit=first.exit + into),
        replace(second, name="decoder"),
    )
    model = architecture(c, parts, tied=decoder.tied, text=target)
    return replace(model, warnings=(*encoder.warnings, *decoder.warnings))


def _read(c: Config, side: str, purpose: str, **changes: bool) -> tuple[Architecture, Config]:
    """One half by its own family's reader, under the class that it is built as."""
    half = c.sub(side, {}, required=True)
    kind = half.text("model_type")
    allowed = (
        CROSSING if side == "decoder" else tuple(name for name, module in MODULES.items() if module == "encoders.bert_line")
    )
    if kind not in allowed:
        raise half.error("model_type", f"{kind!r:.60} is not modelled as {side}; known: {', '.join(allowed)}")
    reader = family(kind)
    config = half.reread(reader.defaults, **changes)
    return reader.read(config.reread(architectures=[purpose])), config


FAMILIES = {"encoder-decoder": Family(encoder_decoder, {})}
