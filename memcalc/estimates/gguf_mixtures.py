"""The type of each tensor in a GGUF file of llama-quantize: which tensors get more bits than the rest.

The rules are those of llama.cpp (src/llama-quant.cpp: llama_tensor_get_type_impl, tensor_type_fallback,
tensor_allows_quantization; conversion/base.py for what is kept in fp32). Some depend on where a layer stands: a
rule is a row of (format, which layers), each set of layers holding the ones before it, so that layers are counted, not
visited. File types that need an importance matrix are taken to have one, the others not.
"""

from collections.abc import Iterator

from memcalc.blocks.architecture import Architecture, Stack
from memcalc.blocks.linears import NOT_LINEAR, leaf
from memcalc.caches import cached
from memcalc.dtypes import number_format
from memcalc.estimates.compute.matrices import matrices, whole_inputs
from memcalc.estimates.layer_spans import Span, earlier
from memcalc.estimates.placement import Held, main_parts
from memcalc.frozen import NamedTuple
from memcalc.specs.quantization import Mixture

Rule = tuple[tuple[str, str], ...]  # (format, the layers that have it unless an earlier entry does); the rest: the file's own


class GgufTraits(NamedTuple):
    """What the rules ask about a model."""

    layers: int
    values: int  # layers with a value (or fused query-key-value) projection
    grouped: bool  # four query heads or more share a key-value head
    experts: int
    falcon: bool
    seventy: bool  # 80 layers and grouped heads: llama.cpp's "70B"
    tied: bool


def _below(which: str, number: int, n: int) -> int:
    """How many of the layers 0 … number - 1 of n belong to a set of layers."""
    eighth, last = n // 8, 7 * n // 8
    if which == "all":
        return number
    if which == "more":  # use_more_bits: the first and the last eighth, and every third between
        return min(number, eighth) + max(0, number - last) + max(0, min(number, last) - eighth) // 3
    if which == "middle":
        return max(0, min(number, last) - eighth)
    return min(number, {"eighth": eighth, "sixteenth": n // 16, "2": 2, "4": 4}[which])


def _all(stored: str) -> Rule:
    return ((stored, "all"),)


SMALLEST = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")
_TWO_BITS = ("IQ2_S", "IQ2_M")

TOKENS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), "q2_k"),
    **dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), "iq3_s"),
    **dict.fromkeys(("TQ1_0", "TQ2_0", "Q2_0"), "q4_k"),
}
VALUES: dict[str, tuple[Rule, Rule]] = {  # with four query heads or more to a key-value head, and with fewer
    "Q2_K": (_all("q4_k"), _all("q3_k")),
    "IQ3_M": (_all("q4_k"), _all("q4_k")),
    "Q3_K_M": ((("q5_k", "2"), ("q4_k", "all")),) * 2,
    "Q3_K_L": (_all("q5_k"), _all("q5_k")),
    "Q4_K_S": ((("q5_k", "4"),),) * 2,
    **dict.fromkeys(("Q4_K_M", "Q5_K_M"), ((("q6_k", "more"),),) * 2),
    **dict.fromkeys(("Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ3_S"), (_all("q4_k"), ())),
    **dict.fromkeys(("IQ4_NL", "IQ4_XS"), (_all("q5_k"), ())),
}
KEYS = QUERIES = {"IQ3_XS": _all("iq3_xxs"), "IQ3_XXS": _all("iq2_s")}
UPS: dict[str, Rule] = {"IQ3_XS": (("iq3_xxs", "middle"),)}
DOWNS: dict[str, Rule] = {
    "Q2_K": _all("q3_k"),
    "Q2_K_S": (("q4_k", "eighth"),),
    "Q3_K_M": (("q5_k", "sixteenth"), ("q4_k", "all")),
    "Q3_K_L": _all("q5_k"),
    "IQ3_M": (("q4_k", "eighth"),),
    **dict.fromkeys(("Q4_K_M", "Q5_K_M"), (("q6_k", "more"),)),
    **dict.fromkeys(("IQ4_NL", "IQ4_XS", "Q4_K_S"), (("q5_k", "eighth"),)),
    **dict.fromkeys(_TWO_BITS, (("iq3_s", "eighth"),)),
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), (("q2_k", "eighth"),)),
}
DOWNS_FALCON: dict[str, Rule] = {
    **DOWNS,
    "Q3_K_M": (("q5_k", "sixteenth"), ("q4_k", "more")),
    "Q3_K_L": _all("q4_k"),
    "Q4_K_M": (("q6_k", "sixteenth"), ("q5_k", "more")),
    "Q4_K_S": (),
}
OUTPUTS = {
    "Q2_K": _all("q3_k"), "IQ3_XXS": _all("iq3_s"), "Q3_K_M": _all("q4_k"), "Q3_K_L": _all("q5_k"), "IQ3_M": _all("q4_k"),
    **dict.fromkeys(("IQ1_S", "IQ1_M"), _all("iq2_xxs")), **dict.fromkeys(_TWO_BITS, _all("iq3_s")),
}  # fmt: skip
OUTPUTS_EIGHT = dict.fromkeys(
    (*SMALLEST, "Q2_K", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "Q3_K_S", "Q3_K_M", "IQ4_NL", "IQ4_XS", "Q4_K_S", "Q4_K_M"),
    _all("q5_k"),
)
# Where a row is no whole number of blocks; fp16 where that does not fit either.
FALLBACKS = {
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"),
    **dict.fromkeys(("q2_0", "q2_k", "q3_k", "tq1_0", "tq2_0"), "q4_0"),
    "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0",
}  # fmt: skip


class Typed(NamedTuple):
    """Rows of one type: `copies` of `rows` rows, each `inputs` long."""

    format: str
    rows: int
    inputs: int
    copies: int


def typed(held: Held, spans: tuple[Span, ...], architecture: Architecture, mixture: Mixture) -> Iterator[Typed]:
    """The types of equal tensors, which may differ from layer to layer."""
    model, stack = model_facts(architecture), _stack(architecture, held)
    count, outputs, inputs = matrices(held)
    stays = _stays(held)
    if stays or number_format(mixture.format).kind != "block":
        yield Typed(stays or mixture.format, count * outputs, inputs, held.copies)
        return
    if held.weight and held.weight.latent_up:  # kept as two: keys [nope, latent, heads] and values [latent, values, heads]
        yield from _latent_up(held, stack, mixture)
        return
    each = held.copies // sum(span.layers for span in spans)
    whole = whole_inputs(held)
    for stored, layers in _counts(held, spans, stack, model, mixture).items():
        yield Typed(_fitting(stored, whole), count * outputs, inputs, layers * each)


@cached(256)
def model_facts(architecture: Architecture) -> GgufTraits:
    stacks = [stack for part in main_parts(architecture) for stack in part.stacks]
    depth = sum(stack.depth for stack in stacks)
    mixers = [block for stack in stacks for layer in stack.layers for _, block in layer.blocks]
    attention = next((block.traits for block in mixers if block.traits.kv_heads), None)
    shared = attention.heads // attention.kv_heads if attention else 0
    values = sum(n for stack in stacks for kind, n in enumerate(stack.counts) if kind in _with_values(stack))
    return GgufTraits(
        depth, values, shared >= 4, max((block.traits.experts for block in mixers), default=0),
        architecture.mixture_rules == "falcon",
        depth == 80 and shared > 1 and architecture.mixture_rules == "llama",
        not architecture.head_parameters,
    )  # fmt: skip


def _stays(held: Held) -> str:
    """The format of what is never quantised: vectors, norms, routers, convolutions and the like in fp32."""
    name = leaf(held.path)
    if "altup" in held.path or "laurel" in held.path or "per_layer_embedding/projection" in held.path:
        return "fp16"
    plain = held.role in ("norm", "router", "position") or name in NOT_LINEAR or name.endswith(("bias", ".bias"))
    return "fp32" if plain or len(held.shape) < 2 else ""


def _category(held: Held) -> str:
    """The rules' name for a tensor; "" for those without rules of their own."""
    _, _, path = held.path.partition("/")
    name = leaf(held.path)
    if held.role in ("embedding", "head") or path.endswith("per_layer_embedding/table"):
        return "head" if held.role == "head" else "tokens"
    if held.role in ("mlp", "experts"):
        return {"gate_up": "up", "gate": "up", "up": "up", "down": "down"}.get(name, "")
    if path.endswith("attention/" + name):
        return {"q": "q", "k": "k", "v": "v", "qkv": "v", "qkvz": "v", "output": "output"}.get(name, "")
    return ""


def _rule(category: str, held: Held, model: GgufTraits, mixture: Mixture) -> Rule:
    name, own = mixture.name, mixture.format
    head = category == "head" or (category == "tokens" and model.tied)
    if name == "MXFP4_MOE":
        return _all("mxfp4" if held.role == "experts" else "q8_0")
    if head:
        if model.falcon or whole_inputs(held) % number_format(own).block_size:
            return _all("q8_0")
        return _all("q5_k" if name in (*SMALLEST, "IQ3_XXS") else "q8_0" if own == "q8_0" else "q6_k")
    if category == "tokens":
        return _all(TOKENS.get(name, own))
    eight = model.experts == 8
    if category == "v":
        return _value_rule(model, mixture)
    if category == "k" and eight:
        return _all("q4_k" if name in SMALLEST else "q8_0")
    if category == "down":
        if name == "IQ3_M" and eight:
            return (("q4_k", "more"),)
        return (DOWNS_FALCON if model.falcon else DOWNS).get(name, ())
    if category == "output":
        if model.falcon and name not in SMALLEST:
            return _all("q4_k") if name == "Q3_K_L" else ()
        return (OUTPUTS_EIGHT if eight else OUTPUTS).get(name, ())
    return {"k": KEYS, "q": QUERIES, "up": UPS}.get(category, {}).get(name, ())


def _value_rule(model: GgufTraits, mixture: Mixture) -> Rule:
    name = mixture.name
    if name in SMALLEST:
        return _all("q4_k" if model.grouped or model.experts >= 4 else "iq3_s" if name in _TWO_BITS else "q2_k")
    if model.experts == 8:
        return _all("q8_0")
    rule = VALUES.get(name, ((), ()))[not model.grouped]
    if model.seventy:  # the small value matrices of a 70B get a little more
        whole = (*rule, (mixture.format, "all"))
        rule = tuple(("q5_k" if stored in ("q3_k", "q4_k") else stored, which) for stored, which in whole)
    return rule


def _counts(held: Held, spans: tuple[Span, ...], stack: Stack | None, model: GgufTraits, mixture: Mixture) -> dict[str, int]:
    """Layers by format."""
    category = _category(held)
    rule = (*_rule(category, held, model, mixture), (mixture.format, "all"))
    kinds = _with_values(stack) if stack and category == "v" else frozenset(range(len(stack.layers) if stack else 0))
    n = model.values if category == "v" else model.layers
    found: dict[str, int] = {}
    for span in spans:
        first = earlier(stack, kinds, span.first) if stack else span.first
        counted = 0
        for stored, which in rule:
            inside = _below(which, first + span.layers, n) - _below(which, first, n)
            found[stored] = found.get(stored, 0) + inside - counted
            counted = inside
            if which == "all":
                break
    return {stored: layers for stored, layers in found.items() if layers}


def _fitting(stored: str, inputs: int) -> str:
    """The type, or what replaces it where a row is no whole number of its blocks."""
    if inputs % number_format(stored).block_size == 0:
        return stored
    replacement = FALLBACKS.get(stored, "fp16")
    return replacement if inputs % number_format(replacement).block_size == 0 else "fp16"


def _latent_up(held: Held, stack: Stack | None, mixture: Mixture) -> Iterator[Typed]:
    assert stack is not None
    traits = next(b.traits for _, b in stack.layers[held.kind].blocks if b.traits.kv_lora_rank)
    keys, values = traits.nope_head_dim, traits.value_dim
    _, outputs, latent = matrices(held)
    heads = outputs // (keys + values)
    own = "mxfp4" if mixture.name == "MXFP4_MOE" else mixture.format
    yield Typed(_fitting(own, keys), latent * heads, keys, held.copies)
    yield Typed(_fitting(own, latent), values * heads, latent, held.copies)


def _stack(architecture: Architecture, held: Held) -> Stack | None:
    if not held.layered:
        return None
    part, path, _ = held.path.split("/", 2)
    return next(stack for p in architecture.parts if p.name == part for stack in p.stacks if stack.path == path)


@cached(256)
def _with_values(stack: Stack) -> frozenset[int]:
    """Kinds of layers with a value (or fused query-key-value) projection."""
    ends = tuple(f"attention/{name}" for name in ("v", "qkv", "qkvz"))
    return frozenset(k for k, layer in enumerate(stack.layers) if any(w.path.endswith(ends) for w in layer.weights))
