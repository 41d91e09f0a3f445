"""Zamba 1 and 2: state-space mixers throughout, and a few shared transformer blocks that run before some of them."""

from memcalc.blocks.architecture import Architecture, Layer, Named
from memcalc.blocks.beside_embeddings import AdaptedMLP, BesideEmbeddings, EmbeddedCopy
from memcalc.blocks.mixers.mamba_heads import MambaOfHeads
from memcalc.blocks.mixers.state_space import Mamba2
from memcalc.blocks.projection import Projection
from memcalc.blocks.reused import Reused
from memcalc.blocks.values import facts_of
from memcalc.readers.hf.common import attention, decoder, mlp, rms, windowed
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.hybrids.mamba import head_groups, or_auto
from memcalc.readers.hf.kinds import layer_kinds


def zamba(c: Config) -> Architecture:
    """One transformer block, shared by all its uses; each has its own where the library ties nothing."""
    start, depth = ["linear_attention", "linear_attention", "hybrid"], c.layers()
    period, offset = c.integer("attn_layer_period"), c.integer("attn_layer_offset", low=0)
    rest = ["hybrid" if i % period == offset else "linear_attention" for i in range(max(depth - len(start), 0))]
    kinds = layer_kinds(c, (start + rest)[:depth], ("linear_attention", "hybrid"), "layers_block_type")
    norm = rms(c)
    plain = Layer((("norm", norm), ("state_space", _zamba_mixer(c))))
    uses, tied = kinds.count("hybrid"), c.flag("tie_word_embeddings")

    def hybrid(last: bool) -> Layer:
        """Tied, the last use stores the block: it is the first that makes its gradients."""
        return Layer((*_zamba_shared(c, tied and not last, last), *plain.blocks), wiring="shared transformer")

    order = iter([False] * (uses - 1) + [True])
    layers = windowed([next(order) if kind == "hybrid" else None for kind in kinds],
                      lambda last: plain if last is None else hybrid(last))  # fmt: skip
    return decoder(c, layers, norm, after_embedding=(("embedded_copy", EmbeddedCopy(c.integer("hidden_size"))),))


def _zamba_mixer(c: Config) -> MambaOfHeads:
    hidden, heads = c.integer("hidden_size"), c.integer("n_mamba_heads")
    inner = c.integer("mamba_expand") * hidden
    if inner % heads:
        raise c.error("n_mamba_heads", f"({heads}) does not divide mamba_expand × hidden_size ({inner})")
    return MambaOfHeads(
        hidden,
        inner,
        c.integer("mamba_d_state"),
        c.integer("mamba_d_conv"),
        or_auto(c, "mamba_dt_rank", -(-hidden // 16)),
        bias=c.flag("mamba_proj_bias"),
        conv_bias=c.flag("mamba_conv_bias"),
        activation=c.text("hidden_mamba_act"),
        heads=heads,
    )


def _zamba_shared(c: Config, reuse: bool, last: bool) -> Named:
    """The transformer block over the layer's input and the embeddings side by side, and its way into the layer."""
    hidden = c.integer("hidden_size")
    double = c.integer("attention_hidden_size", 2 * hidden)
    head_dim = c.integer("attention_head_dim", 2 * hidden // c.integer("num_attention_heads"))
    shared: Named = (
        ("shared_input_norm", rms(c, size=double)),
        ("shared_attention", attention(c, head_dim=head_dim, inputs=double, rotary=False)),
        ("shared_mlp_norm", rms(c)),
        ("shared_mlp", mlp(c)),
    )
    if reuse:
        shared = tuple((name, Reused(block, earlier=True)) for name, block in shared)
    joined: Named = (("shared_input", BesideEmbeddings(hidden, last)),)
    return (*joined, *shared, ("shared_output", Projection(hidden, hidden, role="other")))


def zamba2(c: Config) -> Architecture:
    """Mamba 2 throughout; before some layers stands one of `num_mem_blocks` transformer blocks, taken in turn.

    Each of these blocks is stored once. What lets its uses differ are low-rank adapters, one set a use. Where embedding and
    head are not tied the library ties no blocks either: each use has its own, with the adapters of all uses of that block.
    """
    kinds = _zamba2_kinds(c)
    norm, mixer = rms(c), _zamba2_mixer(c)
    plain = Layer((("norm", norm), ("state_space", mixer)))
    blocks, uses, tied = c.integer("num_mem_blocks"), kinds.count("hybrid"), c.flag("tie_word_embeddings")
    order = iter(range(uses))

    def hybrid(use: int) -> tuple[bool, int, bool]:
        """Whether a later use stores the block of this one, as the first that makes its gradients, how many sets of adapters
        stand here, and whether no later use is there."""
        sets = 1 if tied else -((use % blocks - uses) // blocks)
        return tied and use + blocks < uses, sets, use == uses - 1

    numbered = [hybrid(next(order)) if kind == "hybrid" else None for kind in kinds]
    layers = windowed(
        numbered,
        lambda use: Layer((*_zamba2_shared(c, *use), *plain.blocks), wiring="shared transformer") if use else plain,
    )
    return decoder(c, layers, norm, after_embedding=(("embedded_copy", EmbeddedCopy(c.integer("hidden_size"))),))


def _zamba2_kinds(c: Config) -> list[str]:
    """The default is the order of Zamba2-2.7B, which fits no other depth."""
    pattern = "M" + "MMMMMH" * 7 + "MMMMH" + "MMMH" + "MM"
    default = ["hybrid" if letter == "H" else "linear_attention" for letter in pattern]
    if not c.has("layers_block_type") and c.layers() != len(default):
        raise c.error("layers_block_type", "is missing")
    kinds = layer_kinds(c, default[: c.layers()], ("linear_attention", "hybrid"), "layers_block_type")
    if c.has("hybrid_layer_ids") and c.entries("hybrid_layer_ids") != [i for i, kind in enumerate(kinds) if kind == "hybrid"]:
        raise c.error("hybrid_layer_ids", "must name the layers that layers_block_type calls hybrid")
    return kinds


def _zamba2_shared(c: Config, reuse: bool, sets: int, last: bool) -> Named:
    """The transformer block over the layer's input and the embeddings side by side, `sets` of adapters, and its way into
    the layer."""
    hidden = c.integer("hidden_size")
    double = c.integer("attention_hidden_size", 2 * hidden)
    heads = c.integer("num_attention_heads")
    if 2 * hidden % heads:
        raise c.error("num_attention_heads", f"({heads}) does not divide twice the hidden size ({2 * hidden})")
    mixer = attention(
        c,
        head_dim=c.integer("attention_head_dim", 2 * hidden // heads),
        inputs=double,
        rotary=c.flag("use_mem_rope", False),
    )
    feed_forward = mlp(
        c,
        intermediate=c.integer("intermediate_size", 4 * hidden),
        fused=True,
        bias=c.flag("add_bias_linear", False),
    )
    shared: Named = (
        ("shared_input_norm", rms(c, size=double)),
        ("shared_attention", mixer),
        ("shared_mlp_norm", rms(c)),
        ("shared_mlp", AdaptedMLP(**facts_of(feed_forward))),
    )
    if reuse:
        shared = tuple((name, Reused(block, earlier=True)) for name, block in shared)
    rank = c.integer("adapter_rank")
    adapters = {"mlp": (hidden, 2 * feed_forward.intermediate)}
    if c.flag("use_shared_attention_adapter", False):
        adapters |= {f"attention_{part}": (double, double) for part in ("q", "k", "v")}
    low_rank = tuple(
        (f"{name}_adapter{i or ''}_{step}", Projection(inputs, outputs, role=name.partition("_")[0], cut=cut))
        for i in range(sets)
        for name, (width, end) in adapters.items()
        for step, inputs, outputs, cut in (("down", width, rank, ""), ("up", rank, end, "outputs"))
    )
    joined: Named = (("shared_input", BesideEmbeddings(hidden, last)),)
    return (*joined, *shared, *low_rank, ("shared_output", Projection(hidden, hidden, role="other")))


def _zamba2_mixer(c: Config) -> Mamba2:
    hidden, heads = c.integer("hidden_size"), c.integer("n_mamba_heads")
    inner = c.integer("mamba_expand") * hidden
    if inner % heads:
        raise c.error("n_mamba_heads", f"({heads}) does not divide mamba_expand × hidden_size ({inner})")
    groups = head_groups(c, "mamba_ngroups", heads)
    return Mamba2(
        hidden,
        heads,
        inner // heads,
        c.integer("mamba_d_state"),
        groups,
        c.integer("mamba_d_conv"),
        bias=c.flag("add_bias_linear", False),
        norm_groups=groups,
        chunk=c.integer("chunk_size"),
    )


FAMILIES = {
    "zamba": Family(
        zamba,
        {
            "num_key_value_heads": 16,
            "n_mamba_heads": 2,
            "hidden_act": "gelu",
            "hidden_mamba_act": "silu",
            "attn_layer_period": 6,
            "attn_layer_offset": 4,
            "mamba_d_state": 16,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "mamba_conv_bias": True,
            "mamba_proj_bias": False,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
    ),
    "zamba2": Family(
        zamba2,
        {
            "mamba_d_state": 64,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "mamba_ngroups": 1,
            "n_mamba_heads": 8,
            "chunk_size": 256,
            "hidden_act": "gelu",
            "num_mem_blocks": 1,
            "adapter_rank": 128,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
    ),
}
