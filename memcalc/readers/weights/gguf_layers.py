"""A GGUF file → an architecture made of its own tensors: exact whatever the family, with caches and states as llama.cpp has.

Layers that hold equal tensors and keep the same are one kind. What a file computes is not known, only what it multiplies.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.block import Traits
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight
from memcalc.blocks.stored import LANGUAGE, StoredTensor, StoredTensors
from memcalc.blocks.stored_block import StoredBlock
from memcalc.errors import InputError, Unsupported
from memcalc.readers.weights.gguf_keys import hyperparameters
from memcalc.readers.weights.gguf_memory import LayerMemory, layer_memory
from memcalc.readers.weights.hyperparameters import Hyperparameters
from memcalc.readers.weights.llama_cpp import BERTS, EMBEDDERS, KEEPING

TABLE, HEAD, HEAD_BIAS = "token_embd.weight", "output.weight", "output.bias"
STACKS = {"encoder": "enc.", "decoder": "dec.", LANGUAGE: ""}  # parts by what their tensors' names begin with
LOOKED_UP = {"position_embd.weight": "positions", "token_types.weight": "segments", "per_layer_token_embd.weight": "table"}
LAYERLESS = ("wavtokenizer-dec",)  # its layers are convolutions with names of their own
EXPERT = re.compile(r"ffn_(?:gate|up|down)\.\d+\.weight")  # of files older than stacked experts
UNUSUAL = ("qwen", "arctic")  # whose feed-forwards are half as wide as feed_forward_length says, or as wide as the model
MIXERS = ("attention", "linear-attention", "state-space")  # roles of what looks at other tokens
FEED_FORWARD = ("mlp", "experts", "router")


def architecture_of(stored: StoredTensors, place: str) -> Architecture:
    """The model that a GGUF file holds. Raises Unsupported where llama.cpp has no such architecture."""
    h = hyperparameters(stored, place)
    tensors = [tensor for tensor in stored.tensors if tensor.parameters and tensor.part == LANGUAGE]
    outside = {tensor.name: tensor for tensor in tensors if _number(tensor) is None}
    table, head = outside.get(TABLE), outside.get(HEAD)
    for tensor in filter(None, (table, head)):
        if len(tensor.shape) != 2:
            raise InputError(f"{tensor.name} has {len(tensor.shape)} dimensions, not two", place=place)
    return Architecture(
        model_type=h.architecture,
        parts=tuple(_parts(h, tensors, outside)),
        hidden=h.hidden,
        vocabulary=table.shape[0] if table else head.shape[0] if head else 0,
        tied=bool(table) and not head and h.architecture not in BERTS,
        context=h.whole("context_length", 0) or None,
        as_stored=True,
    )


def _parts(h: Hyperparameters, tensors: Sequence[StoredTensor], outside: Mapping[str, StoredTensor]) -> Iterator[Part]:
    """One part, or encoder and decoder (T5), the last of which keeps the cache."""
    found = [(part, prefix, layers) for part, prefix in STACKS.items() if (layers := _by_layer(h, tensors, f"{prefix}blk."))]
    if not found:
        if h.architecture not in LAYERLESS:
            raise InputError("holds no layers (tensors named blk.0 and on)", place=h.place)
        yield Part(LANGUAGE, _entry(list(outside.values())), (), _exit(h, list(outside.values()), True))
        return
    own = {prefix: [t for t in outside.values() if prefix and t.name.startswith(prefix)] for _, prefix, _ in found}
    rest = [t for t in outside.values() if not any(t in listed for listed in own.values())]
    for number, (part, prefix, layers) in enumerate(found, start=1):
        last = number == len(found)
        stack = Stack.of(_layers(h, layers, keeps=last))
        yield Part(part, _entry(rest) if number == 1 else (), (stack,), (*_listed(own[prefix]), *_exit(h, rest, last)))


def _by_layer(h: Hyperparameters, tensors: Sequence[StoredTensor], prefix: str) -> list[list[StoredTensor]]:
    """Tensors of each layer, without the layers that predict further tokens."""
    mine = [(number, t) for t in tensors if (number := _number(t)) is not None and t.name.startswith(prefix)]
    deepest = 1 + max((layer for layer, _ in mine), default=-1)
    depth = _depth(h, prefix) if deepest else 0
    if deepest < depth:
        raise InputError(f"{h.architecture}.block_count says {depth} layers, its tensors end with {prefix}{deepest - 1}",
                         place=h.place)  # fmt: skip
    layers: list[list[StoredTensor]] = [[] for _ in range(depth)]
    for layer, tensor in mine:
        if layer < depth:
            layers[layer].append(tensor)
    return layers


def _depth(h: Hyperparameters, prefix: str) -> int:
    """How many layers the file must hold."""
    keeping = KEEPING[h.architecture]
    if keeping.stored:
        return keeping.stored(h)
    if prefix.startswith("dec."):
        return h.whole("decoder_block_count", h.layers)
    return h.layers or h.all_layers


def _layers(h: Hyperparameters, layers: Sequence[Sequence[StoredTensor]], *, keeps: bool) -> list[Layer]:
    """Layer objects in order; equal ones are one object."""
    memories = layer_memory(h, KEEPING[h.architecture], len(layers)) if keeps else [LayerMemory()] * len(layers)
    used = h.each("expert_used_count", 0)
    made: dict[tuple[object, ...], Layer] = {}
    out = []
    for number, (tensors, memory) in enumerate(zip(layers, memories, strict=True)):
        _check(h, number, tensors, memory)
        top_k = used[min(number, h.all_layers - 1)]
        weights = tuple(_weight(tensor) for tensor in tensors)
        key = (weights, memory, top_k)
        if key not in made:
            made[key] = Layer(_blocks(h, weights, memory, top_k))
        out.append(made[key])
    return out


def _check(h: Hyperparameters, layer: int, tensors: Sequence[StoredTensor], memory: LayerMemory) -> None:
    """Shapes that follow from keys: llama.cpp loads no file whose tensors differ from them (llama_model_loader)."""
    if layer >= h.all_layers:
        return
    if apart := next((t.name for t in tensors if EXPERT.fullmatch(_inner_name(t))), ""):
        raise Unsupported(f"{h.place}: keeps each expert apart ({apart}), which llama.cpp no longer loads: convert it anew")
    key, value = (memory.kv_heads * size for size in (memory.head_dim, memory.value_dim))
    wide = 0 if h.architecture in UNUSUAL else h.feed_forward[layer]
    said = {"attn_k.weight": (0, key, "attention.head_count_kv × key_length"),
            "attn_v.weight": (0, value, "attention.head_count_kv × value_length"),
            "ffn_down.weight": (-1, wide, "feed_forward_length")}  # fmt: skip
    for tensor in tensors:
        dimension, size, what = said.get(_inner_name(tensor), (0, 0, ""))
        if size and (len(tensor.shape) != 2 or tensor.shape[dimension] != size):
            raise InputError(
                f"{h.architecture}.{what} is {size:,}, but {tensor.name} is {' × '.join(map(str, tensor.shape))}", place=h.place
            )


def _number(tensor: StoredTensor) -> int | None:
    """The layer that a tensor belongs to, by a name such as blk.3.attn_q.weight."""
    return tensor.layer if any(tensor.name.startswith(f"{prefix}blk.") for prefix in STACKS.values()) else None


def _inner_name(tensor: StoredTensor) -> str:
    """Its name within the layer, or outside of layers."""
    return tensor.name if _number(tensor) is None else tensor.name.split("blk.", 1)[1].split(".", 1)[1]


def _weight(tensor: StoredTensor) -> Weight:
    name = _inner_name(tensor)
    name = LOOKED_UP.get(name, name)
    return Weight(name, tensor.role, tensor.shape, routed=tensor.role == "experts" and len(tensor.shape) > 1)


def _blocks(h: Hyperparameters, weights: Sequence[Weight], memory: LayerMemory, top_k: int) -> Named:
    """The blocks of a layer, by what their tensors are for; caches and states go to the mixers among them."""
    groups: dict[str, list[Weight]] = {}
    routed = any(weight.routed for weight in weights)
    for weight in weights:
        group = "experts" if routed and weight.role in FEED_FORWARD else weight.role
        groups.setdefault(group, []).append(weight)
    present = [role for role in MIXERS if role in groups] or list(groups)[:1] or ["attention"]
    attends = "attention" if "attention" in present else present[0]
    recurs = next((role for role in reversed(present) if role in MIXERS[1:]), present[0])
    blocks = []
    for group in {**groups, attends: None, recurs: None}:
        listed = tuple(groups.get(group, ()))
        sizes = _feed_forward(listed, top_k) if group in FEED_FORWARD else Traits()
        sizes = _attention(h, memory, sizes) if group == attends else sizes
        caches = memory.caches if group == attends else ()
        blocks.append((group, StoredBlock(listed, caches, memory.states if group == recurs else (), sizes)))
    return tuple((path, block) for path, block in blocks if block.tensors or block.caches or block.states)


def _attention(h: Hyperparameters, memory: LayerMemory, sizes: Traits) -> Traits:
    key = h.whole("attention.key_length_mla", 0) if KEEPING[h.architecture].latent else 0
    value = h.whole("attention.value_length_mla", 0) if key else 0
    head_dim, value_dim = key or memory.head_dim, value or memory.value_dim
    return sizes._replace(
        heads=memory.heads, kv_heads=memory.kv_heads, head_dim=head_dim, value_dim=value_dim,
        query_size=memory.heads * head_dim, window=memory.window, chunked=memory.chunked,
        causal=KEEPING[h.architecture].cached, compressed=KEEPING[h.architecture].compressed,
        kv_lora_rank=h.whole("attention.kv_lora_rank", 0) if value else 0,
        rope_head_dim=h.whole("rope.dimension_count", 0) if value else 0,
    )  # fmt: skip


def _feed_forward(weights: Sequence[Weight], top_k: int) -> Traits:
    """Widths by the inputs of the down-projections."""
    inputs = {weight.path: weight.shape[-1] for weight in weights if len(weight.shape) > 1}
    routed = [weight for weight in weights if weight.routed]
    dense = inputs.get("ffn_down.weight", 0)
    gated = any("gate" in weight.path and weight.role != "router" for weight in weights)
    if not routed:
        return Traits(feed_forward=dense or inputs.get("ffn_down_shexp.weight", 0), gated=gated)
    experts = max(weight.shape[0] for weight in routed)
    return Traits(
        feed_forward=inputs.get("ffn_down_exps.weight", 0), gated=gated, experts=experts, top_k=min(top_k, experts),
        idle_parameters=sum(w.parameters // w.shape[0] * max(0, w.shape[0] - top_k) for w in routed),
        shared_feed_forward=inputs.get("ffn_down_shexp.weight", dense),
    )  # fmt: skip


def _entry(outside: Sequence[StoredTensor]) -> Named:
    """The token table, and what is added to or looked up beside it."""
    table = [t for t in outside if t.name == TABLE]
    beside = [t for t in outside if t.name in LOOKED_UP or t.name.startswith("token_embd_norm.")]
    tokens = tuple(("tokens", Embedding(t.shape[0], t.shape[1])) for t in table)
    return (*tokens, *_listed(beside))


def _exit(h: Hyperparameters, outside: Sequence[StoredTensor], last: bool) -> Named:
    """Whatever else stands outside the layers; the head, where the model predicts tokens."""
    if not last:
        return ()
    named = {t.name: t for t in outside}
    taken = {TABLE, *LOOKED_UP}
    predicts = h.architecture not in (*BERTS, *EMBEDDERS) and (HEAD in named or TABLE in named)
    matrix = named.get(HEAD, named.get(TABLE))
    head: Named = ()
    if predicts and matrix is not None:
        bias = HEAD_BIAS in named and named[HEAD_BIAS].shape == matrix.shape[:1]
        taken |= {HEAD, HEAD_BIAS} if bias else {HEAD}
        head = (("head", Head(matrix.shape[0], matrix.shape[1], tied=HEAD not in named, bias=bias)),)
    rest = [t for t in outside if t.name not in taken and not t.name.startswith("token_embd_norm.")]
    return (*_listed(rest), *head)


def _listed(tensors: Sequence[StoredTensor]) -> Named:
    """One block for each role."""
    ordered = sorted(tensors, key=lambda tensor: tensor.role)
    groups = groupby(ordered, key=lambda tensor: tensor.role)
    return tuple((role, StoredBlock(tuple(_weight(tensor) for tensor in group))) for role, group in groups)
