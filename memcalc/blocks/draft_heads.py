"""Heads that guess tokens from a model's hidden states: EAGLE 1 to 3, DFlash and Medusa, as engines load them.

Embeddings are the model's own, and so are the heads of EAGLE 1 and DFlash; EAGLE 3 predicts a smaller vocabulary of its own.
Li et al. 2024 (arXiv 2401.15077) and 2025 (2503.01840), Cai et al. 2024 (2401.10774), Chen et al. 2026 (DFlash, 2602.06036);
vllm/model_executor/models/llama_eagle.py, llama_eagle3.py, qwen3_dflash.py, and medusa.py of 0.27.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from memcalc.blocks.architecture import UNQUANTISED, Architecture, Layer, Named, Part, Stack
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.plain import Plain
from memcalc.caches import cached
from memcalc.errors import Unsupported

VOCABULARY = 32_000  # of published EAGLE 3 heads
DEPTHS = 3  # whose hidden states EAGLE 3 reads
FLASH_LAYERS = 5  # of published DFlash heads, and depths whose hidden states they read
MEDUSA_HEADS, MEDUSA_BLOCKS = 5, 1  # vllm/transformers_utils/configs/medusa.py


class HeadSizes(NamedTuple):
    """What a head's config says beside its layers; 0: as published heads have it."""

    vocabulary: int = 0
    depths: int = 0  # whose hidden states are joined
    heads: int = 0
    blocks: int = 0


PUBLISHED = HeadSizes()


def eagle(model: Architecture, layers: tuple[Stack, ...], own: int, sizes: HeadSizes) -> Architecture:
    joined = Plain(linear("join", "projector", own + model.hidden, own))
    return _head(model, own, (("fc", joined),), layers, ())


def eagle3(model: Architecture, layers: tuple[Stack, ...], own: int, sizes: HeadSizes) -> Architecture:
    """Its first layer's queries, keys and values read the embedding too."""
    entry = Plain(
        (*linear("join", "projector", (sizes.depths or DEPTHS) * model.hidden, own), Weight("hidden_norm", "norm", (own,)))
    )
    mixer = next(block for layer in layers[0].layers for _, block in layer.blocks if isinstance(block, Attention))
    sections = ((mixer.heads, mixer.head_dim), (mixer.kv_heads, mixer.head_dim), (mixer.kv_heads, mixer.v_head_dim))
    widths = sum(pieces * width for pieces, width in sections)
    beside = Plain(linear("qkv", "attention", own, widths, cut="outputs", sections=sections))
    last = (("norm", Plain((Weight("scale", "norm", (own,)),))), ("head", Head(sizes.vocabulary or VOCABULARY, own)))
    return _head(model, own, (("fc", entry), ("embedded", beside)), layers, last)


def dflash(model: Architecture, layers: tuple[Stack, ...], own: int, sizes: HeadSizes) -> Architecture:
    depth = sum(stack.depth for stack in layers)
    norms = (Weight(f"{name}_norm", "norm", (own,)) for name in ("hidden", "final"))
    entry = Plain((*linear("join", "projector", (sizes.depths or depth) * model.hidden, own), *norms))
    return _head(model, own, (("fc", entry),), layers, ())


def medusa(model: Architecture, layers: tuple[Stack, ...], own: int, sizes: HeadSizes) -> Architecture:
    heads, blocks = sizes.heads or MEDUSA_HEADS, sizes.blocks or MEDUSA_BLOCKS
    residual = [w for n in range(heads * blocks) for w in linear(f"{n}", "projector", own, own, bias=True)]
    last = tuple((f"head{n}", Head(sizes.vocabulary or model.predicted, own)) for n in range(heads))
    return _head(model, own, (("blocks", Plain(tuple(residual))),), (), last)


Builder = Callable[[Architecture, tuple[Stack, ...], int, HeadSizes], Architecture]
BUILDERS: dict[str, Builder] = {"eagle": eagle, "eagle3": eagle3, "dflash": dflash, "medusa": medusa}


@cached(256)
def draft_head(
    method: str, model: Architecture, drafted: Architecture | None = None, sizes: HeadSizes = PUBLISHED
) -> Architecture:
    """The head of a method for a model: with the layers of `drafted`, its config, or as published heads have them."""
    if drafted:
        stacks = tuple(stack for part in drafted.parts if part.name == "language" for stack in part.stacks)
        if method != "medusa" and not stacks:
            raise Unsupported(f"the config of an {method} head names no layers")
        return BUILDERS[method](model, stacks, drafted.hidden, sizes)
    stacks = (
        () if method == "medusa" else (Stack.uniform(_plain_layer(model, method), FLASH_LAYERS if method == "dflash" else 1),)
    )
    return BUILDERS[method](model, stacks, model.hidden, sizes)


def _plain_layer(model: Architecture, method: str) -> Layer:
    """The last layer of softmax attention over all tokens and one feed-forward, which published heads repeat."""
    found = [layer for layer in _layers(model) if _plain(layer)]
    if not found:
        raise Unsupported(
            f"--draft {method}: heads for models without layers of plain attention and one feed-forward differ in width; "
            f"name its config.json with --draft, and --draft-method {method}"
        )
    whole = [layer for layer in found if not any(block.traits.window for _, block in layer.blocks)]
    layer = (whole or found)[-1]
    return replace(layer, blocks=tuple((name, _full(block)) for name, block in layer.blocks))


def _full(block: Block) -> Block:
    """The same without a window."""
    if isinstance(block, Attention) and block.mask.window:
        return replace(block, mask=block.mask._replace(window=None, chunked=False))
    return block


def _plain(layer: Layer) -> bool:
    mixers = [block for _, block in layer.blocks if isinstance(block, Attention) and not block.cross]
    return bool(mixers) and not any(b.traits.experts or b.state() for _, b in layer.blocks) and not mixers[0].shares_cache


def _layers(model: Architecture) -> Iterator[Layer]:
    for part in model.parts:
        if part.name == "language":
            for stack in part.stacks:
                yield from stack.layers


def _head(model: Architecture, own: int, entry: Named, stacks: tuple[Stack, ...], last: Named) -> Architecture:
    """The pieces as an architecture; a head narrower or wider than its model has an embedding of its own."""
    if own != model.hidden and stacks:
        entry = (("embedding", Embedding(model.vocabulary, own)), *entry)
    part = Part("language", entry, stacks, last)
    return replace(model, parts=(part,), hidden=own, notes=(), tied=False, held=0, quantization=UNQUANTISED)


@cached(256)
def with_head(draft: Architecture, model: Architecture) -> Architecture:
    """A draft that predicts with its model's head, as it runs: the head is read for every guess, though it is held once."""
    if draft.predicted or not draft.parts:
        return draft
    *before, last = draft.parts
    last = replace(last, exit=(*last.exit, ("head", Head(model.predicted, draft.hidden))))
    return replace(draft, parts=(*before, last))
