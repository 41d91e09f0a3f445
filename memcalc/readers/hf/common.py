"""The pieces most decoders share: grouped attention, feed-forward, layer shapes, the frame around the layers."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention, attention_of
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.values import revised
from memcalc.readers.hf.config import Config
from memcalc.readers.hf.kinds import layer_kinds
from memcalc.readers.hf.rotary import rotary_stretch

Trait = TypeVar("Trait", bound=Hashable)
Made = TypeVar("Made")


ATTENTION_KINDS = ("full_attention", "sliding_attention", "chunked_attention")
WIDE = "rms-wide"  # a norm that is scaled in fp32


def rms(c: Config, *, size: int = 0, kind: str = "rms", affine: bool = True) -> Norm:
    epsilon = c.number("rms_norm_eps", 1e-6)
    return Norm(size or c.integer("hidden_size"), kind, affine=affine, epsilon=epsilon)


def layer_norm(c: Config, *, size: int = 0, bias: bool = True) -> Norm:
    return Norm(size or c.integer("hidden_size"), "layer", bias)


def head_dim(c: Config) -> int:
    """`head_dim` where the config says so, else hidden / heads, which must divide."""
    return c.integer("head_dim") if c.has("head_dim") else even_head_dim(c)


def even_head_dim(c: Config) -> int:
    """Hidden / heads, which must divide: for families that know no other head size."""
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    if hidden % heads:
        raise c.error("hidden_size", f"({hidden}) is not a multiple of {c.spelling('num_attention_heads')} ({heads})")
    return hidden // heads


def attention(c: Config, **traits: Any) -> Attention:
    """Grouped attention from the usual keys; `traits` are Attention's own fields."""
    heads = c.integer("num_attention_heads")
    kv_heads = traits.pop("kv_heads", 0) or kv_head_count(c)
    if heads % kv_heads:
        raise c.error("num_key_value_heads", f"({kv_heads}) does not divide num_attention_heads ({heads})")
    traits.setdefault("head_dim", 0)
    traits["head_dim"] = traits["head_dim"] or head_dim(c)
    if traits.get("rotary", True):
        traits.setdefault("rotary_dim", rotary_dim(c, traits["head_dim"]))
    if "dropout" not in traits:
        traits["dropout"] = c.number("attention_dropout", 0.0)
    return attention_of(c.integer("hidden_size"), heads, kv_heads, **traits)


def biased_attention(c: Config, key: str = "attention_bias", **traits: Any) -> Attention:
    """Grouped attention whose four projections all have a bias, or none: as the flag `key` says."""
    bias = c.flag(key, False)
    return attention(c, query_bias=bias, output_bias=bias, **traits)


def kv_head_count(c: Config) -> int:
    """Key-value heads: a null means as many as query heads, an absent key the library's default."""
    heads = c.integer("num_attention_heads")
    return c.integer("num_key_value_heads", heads) if c.has("num_key_value_heads") else heads


def rotary_dim(c: Config, head_dim: int) -> int | None:
    """Rotated dimensions of a head, None for all. `partial_rotary_factor` has moved into `rope_parameters`."""
    key = "partial_rotary_factor"
    nested = c.sub("rope_parameters", {})
    fraction = nested.number(key) if nested.has(key) else c.number(key, 1.0)
    if not 0 <= fraction <= 1:
        raise c.error(key, f"must be between 0 and 1, not {fraction}")
    return None if fraction == 1 else int(head_dim * fraction)


def rotary_dim_of(c: Config, head_dim: int, kind: str) -> int | None:
    """Rotated dimensions of a head in layers of one kind, where `rope_parameters` has an entry for each kind."""
    entry = c.sub("rope_parameters", {}).sub(kind, {})
    if entry.text("rope_type", "default") == "proportional":  # the other dimensions are rotated too, by nothing
        return None
    fraction = entry.number("partial_rotary_factor", 1.0)
    if not 0 <= fraction <= 1:
        raise entry.error("partial_rotary_factor", f"must be between 0 and 1, not {fraction}")
    return None if fraction == 1 else int(head_dim * fraction)


def head_norms(c: Config, attention: Attention, kind: str = "rms") -> Attention:
    """The same attention with a norm over each query and key head (Qwen3, Gemma 3, OLMoE's cousins)."""
    norm = rms(c, size=attention.head_dim, kind=kind)
    return revised(attention, query_norm=norm, key_norm=norm)


def mlp(c: Config, **traits: Any) -> MLP:
    """Feed-forward from the usual keys; `traits` are MLP's own fields."""
    if "activation" not in traits:
        traits["activation"] = c.text("hidden_act", "silu")
    intermediate = traits.pop("intermediate", 0) or c.integer("intermediate_size")
    return MLP(c.integer("hidden_size"), intermediate, **traits)


def pre_norm(norm: Norm, mixer: Block, feed_forward: Block, name: str = "attention") -> Layer:
    """x + mixer(norm(x)), then x + feed_forward(norm(x))."""
    return Layer((("input_norm", norm), (name, mixer), ("post_attention_norm", norm), ("mlp", feed_forward)))


def post_norm(norm: Norm, mixer: Block, feed_forward: Block) -> Layer:
    """x + norm(mixer(x)), then x + norm(feed_forward(x)) (OLMo 2)."""
    return Layer((("attention", mixer), ("post_attention_norm", norm), ("mlp", feed_forward), ("post_mlp_norm", norm)))


def norm_of_sum(norm: Norm, mixer: Block, feed_forward: Block) -> Layer:
    """norm(x + mixer(x)), then norm(x + feed_forward(x)) (BERT, BART, OPT-350M)."""
    return replace(post_norm(norm, mixer, feed_forward), normalises_sum=True)


def parallel(norm: Norm, mixer: Block, feed_forward: Block, mlp_norm: Norm | None = None) -> Layer:
    """x + mixer(norm(x)) + feed_forward(norm(x)); `mlp_norm`: the feed-forward has a norm of its own (GPT-NeoX)."""
    between: Named = (("mlp_norm", mlp_norm),) if mlp_norm else ()
    return Layer((("input_norm", norm), ("attention", mixer), *between, ("mlp", feed_forward)), parallel=True)


def sandwich(norm: Norm, mixer: Block, feed_forward: Block, name: str = "attention") -> Layer:
    """Norms before and after each block (Gemma 2 and later)."""
    return Layer(
        (
            ("input_norm", norm),
            (name, mixer),
            ("post_attention_norm", norm),
            ("pre_mlp_norm", norm),
            ("mlp", feed_forward),
            ("post_mlp_norm", norm),
        )
    )


def sliding_window(c: Config) -> int | None:
    """The window that sliding layers use; a null in the file switches it off, whatever the library's default."""
    return c.integer("sliding_window") if c.has("sliding_window") else None


def every_nth_full(c: Config, period: int) -> list[int | None]:
    """Sliding windows in all layers but each `period`-th (Gemma, Cohere 2, OLMo 3)."""
    window = sliding_window(c)
    return [window if (i + 1) % period else None for i in range(c.layers())]


def every_nth_sliding(c: Config, period: int) -> list[int | None]:
    """Sliding windows in all layers but the first and each `period`-th after it (Granite with windows)."""
    window = sliding_window(c)
    return [window if i % period else None for i in range(c.layers())]


def layer_windows(c: Config, *, default: Sequence[int | None] | None = None) -> list[int | None]:
    """The attention window of each layer: from `layer_types` where given, else `default` (None: all layers full)."""
    depth = c.layers()
    if not c.has("layer_types"):
        return list(default) if default is not None else [None] * depth
    window = sliding_window(c)
    kinds = layer_kinds(c, ["full_attention"] * depth, ATTENTION_KINDS)
    return [window if kind in ("sliding_attention", "chunked_attention") else None for kind in kinds]


def windowed(windows: Sequence[Trait], make: Callable[[Trait], Made]) -> list[Made]:
    """One layer (or mixer) a position, built once for each distinct window or other trait: make(window) -> Layer."""
    made = {window: make(window) for window in dict.fromkeys(windows)}
    return [made[window] for window in windows]


def optional_number(c: Config, key: str) -> float | None:
    """A number that may be switched off with a null (a softcap)."""
    return c.number(key) if c.has(key) else None


def decoder_part(
    c: Config,
    layers: Layer | Sequence[Layer],
    final_norm: Norm | None,
    *,
    tied: bool,
    embedding: Embedding | None = None,
    head: Head | None = None,
    name: str = "language",
    after_embedding: Named = (),
    before_head: Named = (),
) -> Part:
    """Embedding, layers, final norm and head around the given layers."""
    hidden, vocabulary = c.integer("hidden_size"), c.integer("vocab_size")
    stack = Stack.uniform(layers, c.layers()) if isinstance(layers, Layer) else Stack.of(list(layers))
    embed = embedding or Embedding(vocabulary, hidden)
    normed: Named = (("final_norm", final_norm),) if final_norm else ()
    return Part(
        name,
        entry=(("embedding", embed), *after_embedding),
        stacks=(stack,),
        exit=(*normed, *before_head, ("head", head or Head(vocabulary, hidden, tied=tied))),
    )


def decoder(
    c: Config,
    layers: Layer | Sequence[Layer],
    final_norm: Norm | None,
    *,
    tied: bool | None = None,
    embedding: Embedding | None = None,
    head: Head | None = None,
    after_embedding: Named = (),
    before_head: Named = (),
) -> Architecture:
    """A whole decoder-only model. `layers`: one layer for all positions, or one a position."""
    is_tied = c.flag("tie_word_embeddings", False) if tied is None else tied
    part = decoder_part(
        c,
        layers,
        final_norm,
        tied=is_tied,
        embedding=embedding,
        head=head,
        after_embedding=after_embedding,
        before_head=before_head,
    )
    return architecture(c, (part,), tied=is_tied)


# Families whose tensors llama.cpp types by rules of their own (llama-quant.cpp: LLM_ARCH_FALCON, and "70B" of ARCH_LLAMA).
MIXTURE_RULES = {"falcon": "falcon", "llama": "llama", "qwen2": "llama", "apertus": "llama"}


def architecture(
    c: Config, parts: tuple[Part, ...], *, tied: bool, text: Config | None = None, vocabulary: int | None = None
) -> Architecture:
    """The frame with what every config says about itself. `text`: the nested language config of a multimodal model.

    `vocabulary`: 0 for a model that reads no tokens.
    """
    text = text or c
    family = c.text("model_type", "")
    context = text.integer("max_position_embeddings", 0, low=0)
    return Architecture(
        model_type=family,
        parts=parts,
        hidden=text.integer("hidden_size"),
        vocabulary=text.integer("vocab_size") if vocabulary is None else vocabulary,
        tied=tied,
        context=context or None,
        dtype=c.text("torch_dtype", "") or text.text("torch_dtype", ""),
        local_rotary=family.startswith(("gemma3", "gemma4", "laguna", "lfm3", "dots3", "dory")),
        mixture_rules=MIXTURE_RULES.get(family, ""),
        rotary_stretch=rotary_stretch(text),
    )
