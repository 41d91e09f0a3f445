"""BART and its kin: where their norms stand, what their positions are, what attention their encoders have."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from memcalc.autograd.tape import INT64
from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.global_local import GlobalLocalAttention, GlobalTokens
from memcalc.blocks.attention.predicting_streams import HeadAhead, StreamsAhead, StreamsAttention, StreamsCross
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.experts.mixture import experts_of
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.plain import Plain
from memcalc.blocks.unread import Unread
from memcalc.blocks.values import facts_of, revised
from memcalc.frozen import NamedTuple
from memcalc.readers.hf.common import architecture, layer_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.heads import dense_weights
from memcalc.readers.hf.encoders.layers import UNRECORDED
from memcalc.readers.hf.encoders.long_attention import block_sparse
from memcalc.readers.hf.encoders.seq2seq import BART, GENERATION, decoder_layer, encoder_attention, encoder_layer
from memcalc.readers.hf.tasks import classification, classifier, task, uncounted


class Shape(NamedTuple):
    """What tells the models of the line apart."""

    after: bool = False  # norms after each sum; else before each block, and one at the end of each half
    entry_norm: bool = False
    positions: str = "learned"  # "fixed": sines in a parameter that is not trained; "" none stored
    shift: int = 0  # rows of the table beyond max_position_embeddings
    own_head: bool = False  # of a decoder alone, which is then tied to nothing
    labels: int = 2  # of a classifier, where the config does not say


def bart(c: Config, shape: Shape) -> Architecture:
    layers = (encoder_layer(c, after=shape.after), decoder_layer(c, after=shape.after))
    return _assembled(c, shape, *(_stack(c, side, layer) for side, layer in zip(SIDES, layers, strict=True)))


def mvp(c: Config, shape: Shape) -> Architecture:
    """BART, and with `use_prompt` learned keys and values before those of each decoder layer.

    The library hands its encoder the flag in another argument's place, so that one has none, nor has a decoder alone.
    """
    prompts: Named = ()
    if c.flag("use_prompt") and task(c) != "CausalLM":
        hidden, middle, out = c.integer("d_model"), c.integer("prompt_mid_dim"), 2 * c.layers("decoder_layers")
        made = (
            Weight("prompts", "other", (c.integer("prompt_length"), hidden)),
            *linear("down", "other", hidden, middle, bias=True),
            *linear("up", "other", middle, out * hidden, bias=True),
        )
        prompts = tuple((name, Plain(made)) for name in ("self_prompt", "cross_prompt"))
    layers = (encoder_layer(c, after=True), decoder_layer(c, after=True))
    return _assembled(c, shape, *(_stack(c, side, layer) for side, layer in zip(SIDES, layers, strict=True)), decoder=prompts)


def marian(c: Config, shape: Shape) -> Architecture:
    """Fixed sines; the halves may have vocabularies of their own, the decoder alone keeps a head of the encoder's."""
    rows = c.integer("decoder_vocab_size", c.integer("vocab_size"))
    if c.flag("share_encoder_decoder_embeddings"):
        if rows != c.integer("vocab_size"):
            raise c.error("decoder_vocab_size", f"({rows}) must be vocab_size where share_encoder_decoder_embeddings is true")
        return bart(c, shape)
    model, tied = bart(c, shape), c.flag("tie_word_embeddings")
    *first, decoder = model.parts
    table = replace(_table(c, shape, "decoder"), vocabulary=rows)
    if first:
        first = [replace(part, entry=tuple(block for block in part.entry if block[0] != "shared")) for part in first]
        exit_blocks = tuple((name, _with_vocabulary(block, rows)) for name, block in decoder.exit)
        decoder = replace(decoder, exit=exit_blocks)
    elif tied and rows != c.integer("vocab_size"):
        raise c.error("tie_word_embeddings", "ties a head to a table of another vocabulary (decoder_vocab_size)")
    return replace(model, parts=(*first, replace(decoder, entry=(("embedding", table), *decoder.entry[1:]))))


def _with_vocabulary(block: Block, rows: int) -> Block:
    return replace(block, vocabulary=rows) if isinstance(block, Head) else block


def pegasus_x(c: Config, shape: Shape) -> Architecture:
    """Attention in blocks, and to global tokens that each layer norms apart."""
    hidden, norm = c.integer("d_model"), layer_norm(c, size=c.integer("d_model"))
    plain, count, depth = encoder_layer(c, bias=False), c.integer("num_global_tokens"), c.layers("encoder_layers")
    sizes = facts_of(encoder_attention(c, bias=False)) | {"block": c.integer("block_size"), "tokens": count}

    def layer(staggered: bool, last: bool) -> Layer:
        mixer = GlobalLocalAttention(**sizes, staggered=staggered, last=last)
        blocks = tuple((name, mixer if name == "attention" else block) for name, block in plain.blocks)
        return replace(plain, blocks=(*blocks, ("global_norm", norm)), wiring="global tokens")

    layers = [layer(c.flag("stagger_local_blocks") and i % 2 == 1, i == depth - 1) for i in range(depth)]
    tokens: Named = (("global_tokens", GlobalTokens(count, hidden)),)
    return _assembled(c, shape, Stack.of(layers), _stack(c, "decoder", decoder_layer(c, bias=False)), encoder=tokens)


def bigbird_pegasus(c: Config, shape: Shape) -> Architecture:
    """Block-sparse attention in the encoder, unless the config asks for the original."""
    bias, full = c.flag("use_bias"), c.text("attention_type") == "original_full"
    layer = encoder_layer(c, bias=bias)
    if not full:
        mixer = block_sparse(c, encoder_attention(c, bias=bias), INT64)
        layer = replace(layer, blocks=tuple((name, mixer if name == "attention" else block) for name, block in layer.blocks))
    return _assembled(c, shape, _stack(c, "encoder", layer), _stack(c, "decoder", decoder_layer(c, bias=bias)))


def led(c: Config, shape: Shape) -> Architecture:
    """Attention in a window, and projections of their own for the tokens that see all."""
    hidden, layer = c.integer("d_model"), encoder_layer(c, after=True)
    own: Named = tuple((name, dense_weights(hidden, hidden, "attention")) for name in ("global_q", "global_k", "global_v"))
    layer = replace(layer, blocks=layer.blocks + own)
    return _assembled(c, shape, _stack(c, "encoder", layer), _stack(c, "decoder", decoder_layer(c, after=True)))


def nllb_moe(c: Config, shape: Shape) -> Architecture:
    """M2M-100 whose feed-forwards are experts in every so many layers, two of them for a token."""
    stacks = []
    for side, make in zip(SIDES, (encoder_layer, decoder_layer), strict=True):
        plain, step = make(c), c.integer(f"{side}_sparse_step", low=0)
        experts = experts_of(
            c.integer("d_model"), c.integer(f"{side}_ffn_dim"), c.integer("num_experts"), 2, gated=False, expert_bias=True,
            activation=c.text("activation_function"), router_bias=c.flag("router_bias"),
        )  # fmt: skip
        sparse = replace(plain, blocks=(*plain.blocks[:-1], ("mlp", experts), *UNRECORDED))
        depth = c.layers(f"{side}_layers")
        stacks.append(Stack.of([sparse if step > 0 and (i + 1) % step == 0 else plain for i in range(depth)]))
    return _assembled(c, shape, *stacks)


def fsmt(c: Config, shape: Shape) -> Architecture:
    """Two languages with a vocabulary each, sines in parameters, a head that the bare model has too.

    Tied, all tables are the target's.
    """
    tied, source, target = c.flag("tie_word_embeddings"), c.integer("src_vocab_size"), c.integer("tgt_vocab_size")
    shape = shape._replace(shift=c.integer("pad_token_id", 1, low=0) + 1)
    c = c.reread(vocab_size=target)
    head: Named = (("head", Head(target, c.integer("d_model"), tied=tied, upcast=False)),)
    first = Part(
        "encoder",
        (("embedding", replace(_table(c, shape, "encoder"), vocabulary=target if tied else source)),),
        (_stack(c, "encoder", encoder_layer(c, after=True)),),
    )
    second = Part(
        "decoder",
        (("embedding", replace(_table(c, shape, "decoder"), tied=tied)),),
        (_stack(c, "decoder", decoder_layer(c, after=True)),),
        head,
    )
    kind = task(c)
    warnings = () if kind in (*GENERATION, "Model") else uncounted(c)
    return replace(architecture(c, (first, second), tied=tied), warnings=warnings)


def prophetnet(c: Config, shape: Shape) -> Architecture:
    """The decoder predicts several tokens ahead, each in a stream of its own; its distances are projected from its input."""
    hidden, vocabulary, ahead = c.integer("d_model"), c.integer("vocab_size"), c.integer("ngram")
    own = encoder_layer(c, after=True)
    encoder = replace(own, blocks=tuple(
        (name, revised(block, own="scaled queries") if name == "attention" else block) for name, block in own.blocks
    ))  # fmt: skip
    blocks = dict(decoder_layer(c, after=True).blocks)
    if not c.flag("add_cross_attention"):
        blocks = {name: block for name, block in blocks.items() if not name.startswith("cross_attention")}
    kinds: dict[str, Callable[..., Block]] = {
        "attention": partial(StreamsAttention, buckets=c.integer("num_buckets")), "cross_attention": StreamsCross,
    }  # fmt: skip
    for name in kinds.keys() & blocks.keys():
        blocks[name] = kinds[name](**facts_of(revised(blocks[name], by_key=True)), ahead=ahead)
    layer = Layer(tuple(blocks.items()), wiring="streams ahead")
    table = _table(c, shape, "decoder")
    streams = StreamsAhead(ahead, hidden, table.position, table.dropout)
    alone, tied = task(c) == "CausalLM", c.flag("tie_word_embeddings")
    table = replace(table, tied=tied and not alone)
    after: Named = ()
    if alone and not tied:
        after = (("shared", Unread((Weight("tokens", "embedding", (vocabulary, hidden)),))),)
    made = _assembled(c, shape, _stack(c, "encoder", encoder), _stack(c, "decoder", layer))
    *first, decoder = made.parts
    normed = decoder.entry[-1:]
    entry = (*decoder.entry[:-2], ("embedding", replace(table, dropout=0.0)), ("ahead", streams), *normed, *after)
    exit_blocks = tuple(
        (name, HeadAhead(**facts_of(block), ahead=ahead) if isinstance(block, Head) else block) for name, block in decoder.exit
    )
    return replace(made, parts=(*first, replace(decoder, entry=entry, exit=exit_blocks)))


SIDES = ("encoder", "decoder")


def _stack(c: Config, side: str, layer: Layer) -> Stack:
    return Stack.uniform(layer, c.layers(f"{side}_layers"))


def _table(c: Config, shape: Shape, side: str) -> Embedding:
    """Tokens and positions of one half; LED says for each how long it is."""
    own = f"max_{side}_position_embeddings"
    rows = c.integer(own if c.has(own) else "max_position_embeddings") + shape.shift if shape.positions else 0
    return Embedding(
        c.integer("vocab_size"),
        c.integer("d_model"),
        position=rows,
        trainable_position=shape.positions != "fixed",
        dropout=c.number("dropout"),
        scaled=c.flag("scale_embedding"),
    )


def _assembled(
    c: Config, shape: Shape, encoder_stack: Stack, decoder_stack: Stack, *, encoder: Named = (), decoder: Named = ()
) -> Architecture:
    """Both halves under the head of the class; one token table for them, or untied one each beside the shared one."""
    hidden, vocabulary, kind = c.integer("d_model"), c.integer("vocab_size"), task(c)
    norm, tied, alone = layer_norm(c, size=hidden), c.flag("tie_word_embeddings"), kind == "CausalLM"
    head: Named = ()
    warnings: tuple[str, ...] = ()
    if generates := kind in GENERATION or alone:
        tied_head = tied and not (alone and shape.own_head)
        head = (("head", Head(vocabulary, hidden, tied=tied_head, upcast=False)),)
    elif kind == "QuestionAnswering":  # start and end, whatever the labels
        head = (("classifier", classifier(hidden, 2)),)
    elif kind != "Model":
        known = classification(c, hidden, kind, labels=shape.labels)
        head, warnings = known or (), () if known else uncounted(c)
    # untied, the library keeps a table for each half beside the shared one, which then only sets the head's size
    shared: Named = () if tied else (("shared", Embedding(vocabulary, hidden)),)
    normed: Named = (("embedding_norm", norm),) if shape.entry_norm else ()
    last: Named = () if shape.after else (("final_norm", norm),)
    first = Part("encoder", (*shared, ("embedding", _table(c, shape, "encoder")), *normed, *encoder), (encoder_stack,), last)
    table = replace(_table(c, shape, "decoder"), tied=tied and not alone)
    second = Part("decoder", (("embedding", table), *normed, *decoder), (decoder_stack,), (*last, *head))
    if alone and not c.flag("add_cross_attention", False):
        second = replace(second, stacks=(_without_source(decoder_stack),))
    parts = (second,) if alone else (first, second)
    return replace(architecture(c, parts, tied=generates and tied and not (alone and shape.own_head)), warnings=warnings)


def _without_source(stack: Stack) -> Stack:
    """A decoder alone passes its attention to an encoder by, which it stores."""
    layers = tuple(
        replace(layer, blocks=tuple(
            (name, Unread(block.weights()) if name.startswith("cross_attention") else block) for name, block in layer.blocks
        ))
        for layer in stack.layers
    )  # fmt: skip
    return replace(stack, layers=layers)


def _family(read: Callable[..., Architecture], shape: Shape, **changes: Any) -> Family:
    return Family(partial(read, shape=shape), {**_BASE, **changes})


_BASE = {
    **BART,
    "vocab_size": 50265,
    "d_model": 1024,
    **{f"{side}_layers": 12 for side in SIDES},
    **{f"{side}_ffn_dim": 4096 for side in SIDES},
    **{f"{side}_attention_heads": 16 for side in SIDES},
}
_POST = Shape(after=True, entry_norm=True, shift=2)
_M2M = {"vocab_size": 128112, "activation_function": "relu", "attention_dropout": 0.1, "scale_embedding": True}
_PROPHETNET = {"hidden_size": "d_model"} | {f"num_{key}": key for s in SIDES for key in (f"{s}_layers", f"{s}_attention_heads")}
_LONG = {"vocab_size": 96103, "encoder_layers": 16, "decoder_layers": 16, "scale_embedding": True}

FAMILIES = {
    "bart": Family(partial(bart, shape=_POST._replace(labels=3)), BART),
    "mbart": _family(bart, Shape(entry_norm=True, shift=2)),
    "mvp": _family(mvp, _POST, vocab_size=50267, use_prompt=False, prompt_length=100, prompt_mid_dim=800),
    "m2m_100": _family(bart, Shape(positions=""), **_M2M),
    "nllb-moe": _family(
        nllb_moe, Shape(positions=""), **_M2M, num_experts=128, router_bias=False, encoder_sparse_step=4, decoder_sparse_step=4
    ),
    "marian": _family(
        marian, Shape(after=True, positions="fixed"), vocab_size=58101, share_encoder_decoder_embeddings=True
    ),
    "fsmt": _family(
        fsmt, Shape(after=True, positions="fixed"), src_vocab_size=42024, tgt_vocab_size=42024, activation_function="relu",
        scale_embedding=True, tie_word_embeddings=False,
    ),
    "prophetnet": _family(
        prophetnet, _POST._replace(shift=0), vocab_size=30522, max_position_embeddings=512, attention_dropout=0.1,
        num_buckets=32, ngram=2, add_cross_attention=True,
    )._replace(renamed=_PROPHETNET),
    "pegasus": _family(bart, Shape(positions="fixed")),
    "pegasus_x": _family(pegasus_x, Shape(positions=""), **_LONG, max_position_embeddings=16384, num_global_tokens=32,
                         block_size=512, stagger_local_blocks=True),
    "bigbird_pegasus": _family(
        bigbird_pegasus, Shape(own_head=True), **_LONG, activation_function="gelu_new", max_position_embeddings=4096,
        attention_type="block_sparse", use_bias=False, block_size=64, num_random_blocks=3,
    ),
    "led": _family(
        led, _POST._replace(shift=0), max_encoder_position_embeddings=16384, max_decoder_position_embeddings=1024
    ),
    "blenderbot": _family(
        bart, Shape(), vocab_size=8008, d_model=2560, max_position_embeddings=128, encoder_layers=2, decoder_layers=24,
        encoder_ffn_dim=10240, decoder_ffn_dim=10240, encoder_attention_heads=32, decoder_attention_heads=32,
    ),
    "blenderbot-small": _family(
        bart, _POST._replace(shift=0), d_model=512, max_position_embeddings=512, encoder_layers=8, decoder_layers=8,
        encoder_ffn_dim=2048, decoder_ffn_dim=2048,
    ),
}  # fmt: skip
