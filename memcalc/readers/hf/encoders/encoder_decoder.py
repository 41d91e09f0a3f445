"""An encoder and a decoder by families of their own, joined (transformers EncoderDecoderModel, Vision…, Speech…)."""

from dataclasses import replace
from functools import partial

from memcalc.blocks.architecture import Architecture, Named, Part
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.common import architecture
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.families import BY_MODULE, KIN, MODULES, family

CROSSING = (
    "bert", "roberta", "xlm-roberta", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert",
    "roberta-prelayernorm", "roc_bert", "xlm-roberta-xl",
)  # fmt: skip
READING = ("trocr", "bart", "mbart", "pegasus", "blenderbot")  # decoders that read an encoder whatever their config says
LINES = ("encoders.bert_line", "encoders.long_attention")
TEXT = tuple(name for name in (*(name for line in LINES for name in BY_MODULE[line].split()), *KIN) if MODULES[name] in LINES)


def encoder_decoder(c: Config, encoders: tuple[str, ...], decoders: tuple[str, ...]) -> Architecture:
    """The encoder keeps its pooler; its states are projected where the decoder has another width."""
    encoder, source = _read(c, "encoder", "Model", encoders)
    crosses = c.sub("decoder", {}).flag("add_cross_attention", True)  # the function that joins two configs sets it
    decoder, target = _read(c, "decoder", "ForCausalLM", decoders, is_decoder=True, add_cross_attention=crosses)
    (first,), (second,) = encoder.parts, decoder.parts
    wide, narrow = source.integer("hidden_size"), target.integer("hidden_size")
    into: Named = ()
    if target.has("cross_attention_hidden_size"):
        if target.text("model_type") != "trocr" or target.integer("cross_attention_hidden_size") != wide:
            raise target.error(
                "cross_attention_hidden_size", "must be null: a decoder that reads another width is not modelled"
            )
    elif source.integer("output_hidden_size", wide) != narrow:  # what an adapter would give (wav2vec 2)
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


def _read(c: Config, side: str, purpose: str, allowed: tuple[str, ...], **changes: bool) -> tuple[Architecture, Config]:
    """One half by its own family's reader, under the class that it is built as."""
    half = c.sub(side, {}, required=True)
    kind = half.text("model_type")
    if kind not in allowed:
        raise half.error("model_type", f"{kind!r:.60} is not modelled as {side}; known: {', '.join(allowed)}")
    reader = family(kind)
    config = half.reread(reader.defaults, **changes)
    return reader.read(config.reread(architectures=[purpose])), config


FAMILIES = {
    "encoder-decoder": Family(partial(encoder_decoder, encoders=TEXT, decoders=CROSSING), {}),
    "vision-encoder-decoder": Family(partial(encoder_decoder, encoders=("vit",), decoders=CROSSING + READING), {}),
    "speech-encoder-decoder": Family(
        partial(encoder_decoder, encoders=("wav2vec2", "hubert"), decoders=CROSSING + READING), {}
    ),
}
