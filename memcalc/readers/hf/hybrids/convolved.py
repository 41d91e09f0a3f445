"""Decoders that convolve queries, keys or values before they attend: ZAYA and Inkling."""

from memcalc.blocks.architecture import Architecture, Layer, Named
from memcalc.blocks.attention.convolved import CausalConvolution, ConvolvedAttention
from memcalc.blocks.attention.distance_logits import DistanceLogits
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.block import Block
from memcalc.blocks.experts.mixture import Experts
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight, linear, whole
from memcalc.blocks.mixers.state import StateTensor, convolution_state, depthwise
from memcalc.blocks.plain import Plain
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import biased_attention, decoder, head_norms, mlp, rms, rotary_dim_of, sliding_window, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.mixtures.experts import experts, with_notes

FULL, SLIDING = "hybrid", "hybrid_sliding"


def zaya(c: Config) -> Architecture:
    """Compressed convolutional attention; a router of several layers, which reads the one before it from the second on."""
    hidden, depth, norm = c.integer("hidden_size"), c.layers(), rms(c)
    kinds = layer_kinds(c, [FULL] * depth, (FULL, SLIDING))

    def scaling() -> Plain:
        return Plain(
            tuple(Weight(f"{of}_{what}", "other", (hidden,)) for of in ("branch", "residual") for what in ("scale", "bias"))
        )

    def layer(kind: tuple[str, bool]) -> Layer:
        mixer, first = kind
        return Layer(
            (
                ("input_norm", norm),
                ("attention", _zaya_attention(c, mixer)),
                ("attention_scaling", scaling()),
                ("post_attention_norm", norm),
                ("mlp", _zaya_experts(c, first)),
                ("mlp_scaling", scaling()),
            )
        )

    tied = c.flag("tie_word_embeddings")
    start = Plain(tuple(Weight(name, "other", (hidden,)) for name in ("scale", "bias")))
    return decoder(
        c, windowed([(kind, i == 0) for i, kind in enumerate(kinds)], layer), norm, tied=tied,
        after_embedding=(("embedding_scaling", start),),
        head=Head(c.integer("vocab_size"), hidden, tied=tied, bias=c.flag("lm_head_bias")),
    )  # fmt: skip


def _zaya_attention(c: Config, kind: str) -> ConvolvedAttention:
    """Queries and keys pass a depthwise convolution and one for each head; half of each value is the last token's."""
    window = sliding_window(c) if kind == SLIDING else None
    block = biased_attention(c, window=window, rotary_dim=rotary_dim_of(c, c.integer("head_dim"), kind))
    block = revised(block, extras=(Weight("temperature", "attention", (block.kv_heads,)),))
    channels, kernels = block.query_size + block.key_size, (c.integer("cca_time0"), c.integer("cca_time1"))
    heads = ((block.heads + block.kv_heads, block.head_dim),)
    by_head = (
        Weight("conv_heads", "attention", (channels, block.head_dim, kernels[1])),
        Weight("conv_heads.bias", "attention", (channels,)),
    )
    delayed = block.key_size // 2
    return ConvolvedAttention(
        block,
        (*depthwise("conv", "attention", kernels[0], heads, bias=True), *by_head),
        (
            convolution_state(sum(kernels) - 2, heads),
            StateTensor("delayed values", (delayed,), whole(0, delayed)),
        ),
    )


def _zaya_experts(c: Config, first: bool) -> Experts:
    """One choice more than there are experts: to pass by them all."""
    width, count = c.integer("router_hidden_size"), c.integer("num_experts")
    extras = (
        *linear("down", "router", c.integer("hidden_size"), width, bias=True),
        Weight("norm/scale", "norm", (width,)),
        *linear("hidden_1", "router", width, width, bias=True),
        *linear("hidden_2", "router", width, width, bias=True),
        *(() if first else (Weight("last_scale", "router", (width,)),)),
    )
    made = experts(c, routing="zaya", router_extras=extras)
    return revised(made, router=made.router._replace(hidden=width, width=count + 1))


def inkling_text(c: Config) -> Architecture:
    """Keys, values and the results of both blocks are convolved; positions are learned logits of distances."""
    hidden, depth, norm, kernel = c.integer("hidden_size"), c.layers(), rms(c), c.integer("conv_kernel_size")
    local = set(c.entries("local_layer_ids", of=int)) if c.has("local_layer_ids") else {i for i in range(depth) if (i + 1) % 6}
    kinds = layer_kinds(c, [SLIDING if i in local else FULL for i in range(depth)], (FULL, SLIDING))
    first = c.integer("dense_mlp_idx", 0, low=0)
    default = ["dense" if i < first else "sparse" for i in range(depth)]
    sparse = [kind == "sparse" for kind in layer_kinds(c, default, ("dense", "sparse"), "mlp_layer_types")]
    convolution = CausalConvolution(hidden, kernel)

    def layer(kind: tuple[str, bool]) -> Layer:
        mixer, routed = kind
        blocks: Named = (
            ("input_norm", norm),
            ("attention", _inkling_attention(c, mixer)),
            ("attention_convolution", convolution),
            ("post_attention_norm", norm),
            ("mlp", _inkling_experts(c) if routed else _inkling_dense(c)),
            ("mlp_convolution", convolution),
        )
        return Layer(blocks, wiring="convolved")

    layers = windowed(list(zip(kinds, sparse, strict=True)), layer)
    head = Head(c.integer("vocab_size"), hidden, input_scaled=True)
    return with_notes(decoder(c, layers, norm, tied=False, after_embedding=(("embedding_norm", norm),), head=head), c)


def _inkling_attention(c: Config, kind: str) -> ConvolvedAttention:
    """Sliding layers have heads of their own, and logits for as many distances as their window has."""
    prefix, window = ("swa_", c.integer("sliding_window_size")) if kind == SLIDING else ("", None)
    heads, kv_heads = c.integer(f"{prefix}num_attention_heads"), c.integer(f"{prefix}num_key_value_heads")
    if heads % kv_heads:
        raise c.error(f"{prefix}num_key_value_heads", f"({kv_heads}) does not divide the heads ({heads})")
    hidden, rank, kernel = c.integer("hidden_size"), c.integer("d_rel"), c.integer("conv_kernel_size")
    extent = window or c.integer("rel_extent")
    distances = (
        *linear("distance", "attention", hidden, heads * rank),
        Weight("distance_logits", "attention", (rank, extent)),
    )
    size = c.integer(f"{prefix}head_dim")
    block = head_norms(
        c, attention_of(hidden, heads, kv_heads, size, window=window, rotary=False, dropout=c.number("attention_dropout", 0.0))
    )
    keys = ((kv_heads, size),)
    keys_state = convolution_state(kernel, keys)._replace(dtype="float32")
    return ConvolvedAttention(
        revised(block, extras=distances),
        tuple(w for name in ("k", "v") for w in depthwise(name, "attention", kernel, keys, bias=False)),
        (keys_state, keys_state._replace(path="convolution of values")),
        kernel,
        DistanceLogits(rank, extent, sharpened=kind == FULL and c.has("log_scaling_n_floor")),
    )


def _inkling_experts(c: Config) -> Experts:
    """The router scores the shared experts too, so that what they take is not the routed ones'."""
    count = c.integer("n_shared_experts")
    shared = mlp(c, intermediate=count * _inkling_widths(c)[1])
    scale = Weight("scale", "router", (1,))
    wide = c.reread(moe_intermediate_size=_inkling_widths(c)[1])
    return experts(
        wide, shared=shared, shared_weighed=count, routing="inkling", router_width=c.integer("num_experts") + count,
        router_extras=(scale,),
    )  # fmt: skip


def _inkling_dense(c: Config) -> Block:
    return mlp(c, intermediate=_inkling_widths(c)[0], scaled=True)


def _inkling_widths(c: Config) -> tuple[int, int]:
    """Of dense feed-forwards and of experts: older files call them dense_intermediate_size and intermediate_size."""
    if c.has("dense_intermediate_size"):
        return c.integer("dense_intermediate_size"), c.integer("intermediate_size")
    return c.integer("intermediate_size"), c.integer("moe_intermediate_size")


FAMILIES = {
    "zaya": Family(
        zaya,
        {
            "num_key_value_heads": 2,
            "head_dim": 128,
            "num_experts_per_tok": 1,
            "router_hidden_size": 256,
            "lm_head_bias": False,
            "cca_time0": 2,
            "cca_time1": 2,
            "rope_parameters": {FULL: {"partial_rotary_factor": 0.5}, SLIDING: {"partial_rotary_factor": 0.5}},
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
            "max_position_embeddings": 131072,
        },
    ),
    "inkling_text": Family(
        inkling_text,
        {
            "num_key_value_heads": 8,
            "head_dim": 128,
            "swa_num_attention_heads": 64,
            "swa_num_key_value_heads": 16,
            "swa_head_dim": 128,
            "sliding_window_size": 512,
            "d_rel": 16,
            "rel_extent": 1024,
            "conv_kernel_size": 4,
            "num_experts_per_tok": 6,
            "n_shared_experts": 2,
            "max_position_embeddings": 131072,
        },
        {"sconv_kernel_size": "conv_kernel_size", "model_max_length": "max_position_embeddings"},
    ),
}
