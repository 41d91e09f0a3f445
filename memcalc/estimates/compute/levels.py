"""One run's FLOPs at three levels: the rule of thumb, the model's own ledger, and published formulas beside them."""

from collections.abc import Callable
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.caches import cached
from memcalc.estimates.compute.flops import entries, is_encoder_decoder, step_flops
from memcalc.estimates.lines import Figure, figure
from memcalc.formulas import compute
from memcalc.frozen import NamedTuple

SEQ_LEN = 2048  # tokens, where neither the user nor the model's context says otherwise


class Level(NamedTuple):
    """One way of counting. `per_token` is None where it does not apply, and `counts` says why."""

    name: str
    title: str
    kind: str  # rule of thumb, architecture or published
    per_token: float | None
    counts: str
    hardware: bool = False  # what the hardware executes, recomputation included
    formula: Callable[..., float] | None = None
    inputs: tuple[tuple[str, Any], ...] = ()  # beside tokens or sequences

    def flops(self, tokens: float) -> float | None:
        return None if self.per_token is None else self.per_token * tokens

    def figure(self, tokens: float) -> Figure | None:
        """The line of an estimate, where there is a formula and not a sum over blocks."""
        if self.formula is None:
            return None
        inputs = dict(self.inputs)
        amount = {"sequences": tokens / inputs["seq_len"]} if "sequences" in _arguments(self.formula) else {"tokens": tokens}
        return figure(f"flops/{self.name}", "FLOP", self.formula, **amount, **inputs)


def levels(architecture: Architecture | None, parameters: float, seq_len: int, recompute: str) -> tuple[Level, ...]:
    """All levels, the rules of thumb first."""
    rules = _rules(parameters, architecture is not None and is_encoder_decoder(architecture))
    if architecture is None:
        return rules
    return (*rules, *_own(architecture, seq_len, recompute), *_published(architecture, parameters, seq_len))


def _rules(parameters: float, encoder_decoder: bool) -> tuple[Level, ...]:
    known = (("parameters", parameters),)
    if encoder_decoder:
        return (
            Level("6ND", "3·N·D", "rule of thumb", 3 * parameters, "encoder-decoder: each token passes half of the parameters",
                  False, compute.encoder_decoder_training_flops, known),
        )  # fmt: skip
    return (
        Level("6ND", "6·N·D", "rule of thumb", 6 * parameters, "every active parameter once a token; no attention scores",
              False, compute.dense_training_flops, known),
        Level("8ND", "8·N·D", "rule of thumb", 8 * parameters, "the same with full recomputation: a hardware count",
              True, compute.recomputed_training_flops, known),
    )  # fmt: skip


@cached(64)
def _own(architecture: Architecture, seq_len: int, recompute: str) -> tuple[Level, ...]:
    full = step_flops(architecture, 1, seq_len, recompute=recompute)
    causal = step_flops(architecture, 1, seq_len, recompute=recompute, causal=True)
    out = [
        Level("architecture", "architecture, all pairs", "architecture", full.model / seq_len,
              "every matrix product; attention over all pairs, as FlopCounterMode"),
        Level("architecture-causal", "architecture, causal", "architecture", causal.model / seq_len,
              "the same; attention over the pairs that masks leave"),
    ]  # fmt: skip
    if recompute != "none":
        out.append(Level("architecture-hardware", f"architecture, {recompute} recomputation", "architecture",
                         full.hardware / seq_len, "all pairs, and what is computed again in the backward", True))  # fmt: skip
    return tuple(out)


class GptShape(NamedTuple):
    """The sizes that published formulas ask for."""

    layers: int
    hidden: int
    heads: int
    head_dim: int
    feed_forward: int  # 0: not one MLP of two matrices and as many key as query heads
    vocabulary: int


@cached(256)
def gpt_shape(architecture: Architecture) -> GptShape | None:
    """None for models without softmax attention, which the published formulas know nothing of."""
    layers, heads, head_dim = 0, 0, 0
    widths: set[int] = set()
    for entry in entries(architecture):
        traits = entry.block.traits
        if traits.query_size:
            layers += entry.layers
            heads, head_dim = heads or traits.heads, head_dim or traits.head_dim
            if traits.kv_heads != traits.heads:
                widths.add(0)
        elif traits.feed_forward:
            widths.add(0 if traits.gated or traits.experts else traits.feed_forward)
    if not layers:
        return None
    width = widths.pop() if len(widths) == 1 else 0
    return GptShape(layers, architecture.hidden, heads, head_dim, width, architecture.predicted)


def _published(architecture: Architecture, parameters: float, seq_len: int) -> tuple[Level, ...]:
    sizes = gpt_shape(architecture)
    if sizes is None:
        return (Level("palm", "PaLM, appendix B", "published", None, "knows softmax attention only"),)
    s, attention = sizes, {"layers": sizes.layers, "heads": sizes.heads, "head_dim": sizes.head_dim, "seq_len": seq_len}
    inputs = (("parameters", parameters), *attention.items())
    scores = s.layers * s.heads * s.head_dim * seq_len
    out = [
        Level("palm", "PaLM, appendix B", "published", 6 * parameters + 12 * scores, "6 N and attention over all pairs",
              False, compute.palm_training_flops, inputs),
        Level("palm-causal", "PaLM, causal", "published", 6 * parameters + 6 * scores, "6 N and half the pairs (Megatron-LM)",
              False, compute.palm_causal_training_flops, inputs),
    ]  # fmt: skip
    return (*out, _narayanan(s, seq_len), _hoffmann(s, seq_len))


def _narayanan(s: GptShape, seq_len: int) -> Level:
    if s.feed_forward != 4 * s.hidden or s.heads * s.head_dim != s.hidden:
        why = "assumes GPT-2's block: an MLP of two matrices 4 h wide and heads that make up h"
        return Level("narayanan", "Narayanan 2021, equation 3", "published", None, why, True)
    inputs = (("seq_len", seq_len), ("layers", s.layers), ("hidden", s.hidden), ("vocabulary", s.vocabulary))
    per_token = compute.narayanan_flops(1 / seq_len, seq_len, s.layers, s.hidden, s.vocabulary)
    return Level("narayanan", "Narayanan 2021, equation 3", "published", per_token, "GPT-2's block with full recomputation",
                 True, compute.narayanan_flops, inputs)  # fmt: skip


def _hoffmann(s: GptShape, seq_len: int) -> Level:
    if not s.feed_forward:
        return Level(
            "hoffmann",
            "Hoffmann 2022, appendix F",
            "published",
            None,
            "assumes an MLP of two matrices, and keys and values for every head",
        )
    inputs = (
        ("seq_len", seq_len), ("layers", s.layers), ("hidden", s.hidden), ("heads", s.heads), ("head_dim", s.head_dim),
        ("feed_forward", s.feed_forward), ("vocabulary", s.vocabulary),
    )  # fmt: skip
    per_token = compute.hoffmann_flops(1 / seq_len, **dict(inputs))
    return Level("hoffmann", "Hoffmann 2022, appendix F", "published", per_token,
                 "embedding as a matrix product and softmax too", False, compute.hoffmann_flops, inputs)  # fmt: skip


def _arguments(function: Callable[..., float]) -> tuple[str, ...]:
    return function.__code__.co_varnames[: function.__code__.co_argcount]
