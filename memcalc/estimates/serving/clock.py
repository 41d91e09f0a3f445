"""How long each operator of a served pass takes on one rank: the laws of operators, fed with the ledger's shapes."""

from collections.abc import Mapping
from math import ceil

from memcalc.estimates.serving.kernels import GGUF, HALF, Stored
from memcalc.estimates.serving.operators import Attending, Grouped, Operators, Scan
from memcalc.formulas.formula import ASSUMED
from memcalc.formulas.timing.attention import AttentionShape
from memcalc.formulas.timing.experts import UNEVEN, ExpertShape, active_experts
from memcalc.formulas.timing.law import TimeLaw
from memcalc.formulas.timing.llama_cpp import (
    VECTOR_ROWS,
    GgmlKernels,
    gguf_experts_seconds,
    gguf_seconds,
    half_seconds,
    scored_seconds,
    vector_scored_seconds,
    vector_seconds,
)
from memcalc.formulas.timing.products import product_seconds, quantise_seconds
from memcalc.frozen import NamedTuple

START = 1.5e-6  # s, of a kernel that moves little, inside a graph: a half to two thirds of a small product's (2.0 to 2.5 µs)
OFFLOADED_ROWS = 32
PLAIN = Stored("bf16")
SCANNED = 0.25  # share of the peak that a chunked scan's small products reach


class HostMemory(NamedTuple):
    """What multiplies with weights in host memory: the CPU for few rows, the GPU over its bus for many."""

    bandwidth: float  # B/s
    bus: float  # B/s
    flops: float  # of the CPU, FLOP/s

    def seconds(self, rows: float, size: float, flops: float, on_gpu: float) -> float:
        """One product, or a layer's experts, of `size` bytes of weights.

        llama.cpp copies weights to the GPU for batches of 32 rows and more (ggml-cuda.cu, GGML_OP_OFFLOAD_MIN_BATCH).
        """
        if rows >= OFFLOADED_ROWS:
            return on_gpu + size / self.bus
        return max(size / self.bandwidth, flops / self.flops)


class StepWork(NamedTuple):
    """Tokens of one pass: prompts that are read, sequences that get one more token (or several, verified at once)."""

    prompts: float = 0.0
    tokens: float = 0.0  # of each prompt in this pass
    past: float = 0.0  # of each prompt before it
    sequences: float = 0.0
    context: float = 0.0  # of each of them before it
    queries: int = 1  # tokens of each sequence
    others: float | None = None  # rows of all other groups that share the experts; None: as many each as this one's

    @property
    def rows(self) -> float:
        return self.prompts * self.tokens + self.sequences * self.queries

    @property
    def results(self) -> float:
        """Rows whose logits are made."""
        return self.prompts + self.sequences * self.queries


class OperatorSeconds(NamedTuple):
    """Seconds of one rank in a pass, by what takes them."""

    products: float = 0.0
    attention: float = 0.0
    experts: float = 0.0
    recurrence: float = 0.0
    elementwise: float = 0.0
    messages: float = 0.0

    @property
    def seconds(self) -> float:
        return sum(self)


class ServingRank(NamedTuple):
    """One rank of a replica: what it runs, on what."""

    operators: Operators
    law: TimeLaw
    engine: str
    stored: Mapping[str, Stored]  # role → how
    cache: str  # format of attention's products and of the cache, a key of the law
    prompts: str  # the same over prompts
    cache_bytes: float  # of an element
    tp: int
    pp: int
    ep: int
    host: HostMemory | None = None  # where layers in host memory are computed
    ggml: GgmlKernels | None = None  # llama.cpp's
    scored: bool = False  # attention over prompts keeps its scores in memory
    gap: float = 0.0  # s between a layer's kernels, beside what they take

    @property
    def groups(self) -> int:
        """Tensor-parallel groups that share the experts, each with a batch of its own."""
        return max(1, self.ep // self.tp)

    @property
    def passes(self) -> float:
        """Bytes between products, for each that fused kernels in 16 bits move."""
        return self.ggml.passes * self.law.constants.ggml.spilled if self.ggml else 1.0

    def entering(self, work: StepWork) -> float:
        """Rows of all groups that share the experts."""
        return work.rows * self.groups if work.others is None else work.rows + work.others

    def parts(self, work: StepWork) -> OperatorSeconds:
        """Device time of a pass through all layers."""
        o = self.operators
        return OperatorSeconds(
            sum(layers * self._product(work.results if made.last else work.rows, made.outputs, made.inputs, made.role)
                for made, layers in o.products),
            sum(layers * self._attention(made, work) for made, layers in o.attending),
            sum(layers * self._experts(made, self.entering(work)) for made, layers in o.grouped),
            sum(layers * self._scan(made, work) for made, layers in o.scans),
            o.kernels * START + o.layers * self.gap + self.law.moved(HALF * o.elements * work.rows * self.passes),
            self._messages(work.rows),
        )  # fmt: skip

    def _product(self, rows: float, outputs: int, inputs: int, role: str) -> float:
        stored = self.stored.get(role, PLAIN)
        here = self._on_gpu(rows, outputs, inputs, stored)
        if not stored.on_host or self.host is None:
            return here
        size = outputs * inputs * stored.itemsize
        return (1 - stored.on_host) * here + stored.on_host * self.host.seconds(rows, size, 2 * rows * outputs * inputs, here)

    def _on_gpu(self, rows: float, outputs: int, inputs: int, stored: Stored) -> float:
        law, size = self.law, outputs * inputs * stored.itemsize
        if stored.kernel == GGUF:
            return gguf_seconds(law, rows, outputs, inputs, stored.itemsize, blocks=self.ggml is None or self.ggml.blocks)
        if self.ggml and rows > VECTOR_ROWS and stored.kernel == "bf16":
            return half_seconds(law, rows, outputs, inputs)
        unpacking = outputs * inputs * (stored.itemsize + HALF) if stored.unpacked else 0.0
        rates = law.product_rates(stored.kernel)
        if self.ggml and rows <= VECTOR_ROWS:
            return self._vector(rows, outputs, inputs, size + unpacking, stored.kernel)
        seconds = product_seconds(rates, rows, outputs, inputs, added=unpacking)
        if self.ggml or (law.constants.certainty != ASSUMED and stored.kernel in law.constants.product):
            return seconds
        # a few rows fill no tile: on GPUs whose peak is low for their bandwidth, tiles of tables measured elsewhere would; so
        # do some more, for which a kernel of a few rows can run again
        return min(seconds, self._vector(rows, outputs, inputs, size + unpacking, stored.kernel))

    def _vector(self, rows: float, outputs: int, inputs: int, size: float, kernel: str) -> float:
        """Time of a kernel for a few rows, run as often as there are more: it reads `size` [B] of weights and fills no tile."""
        rates, turns = self.law.product_rates(kernel), ceil(rows / VECTOR_ROWS)
        casting = quantise_seconds(rates, rows * inputs) if rates.operands.quantised else 0.0
        reading = size / (min(1.0, rates.constants.bandwidth) * self.law.hardware.bandwidth)
        few = max(reading, vector_seconds(self.law, size) if self.ggml else 0.0)
        roof = 2 * rows * outputs * inputs / rates.flops if rates.flops else 0.0
        return rates.constants.start + max(turns * few, roof) + casting

    def _attention(self, made: Attending, work: StepWork) -> float:
        seconds = 0.0
        shape = AttentionShape(made.heads, made.kv_heads, made.head_dim, made.value_dim, made.window or 0)
        if work.prompts:
            seen = shape._replace(window=min(made.window or made.selected, made.selected)) if made.selected else shape
            if self.scored and not made.latent:
                seconds += scored_seconds(self.law, shape, work.prompts, work.tokens, work.past)
            else:
                seconds += self.law.attention(
                    seen, work.prompts, work.tokens, self.cache if made.latent else self.prompts, past=work.past,
                    cached_bytes=self.cache_bytes, latent=bool(made.latent),
                )  # fmt: skip
        if work.sequences:
            heads, context = made.heads * work.queries, min(work.context, made.selected or work.context)
            if made.latent:
                seconds += self.law.latent_decode(
                    heads, made.rank, made.latent - made.rank, work.sequences, context, self.cache, self.cache_bytes
                )
            else:
                many = shape._replace(heads=heads)
                decoding = self.law.decode(many, work.sequences, context, self.cache, self.cache_bytes)
                if self.scored:
                    cells = min(context + 1, made.window or context + 1)
                    decoding = max(decoding, vector_scored_seconds(self.law, heads, work.sequences, cells))
                seconds += decoding
        if made.index_width:
            read = work.prompts * (work.past + work.tokens / 2) + work.sequences * work.context
            seconds += 2 * START + self.law.moved(read * made.index_width)
        return seconds

    def _experts(self, made: Grouped, rows: float) -> float:
        ranks = max(1, round(made.experts / made.here))
        shape = ExpertShape(made.hidden, made.inner, made.experts, made.top_k, 1, ranks, 3 if made.gated else 2)
        stored = self.stored.get("experts", PLAIN)
        if stored.kernel == GGUF:
            here = gguf_experts_seconds(self.law, rows, shape, stored.itemsize)
        else:
            here = self.law.experts(shape, rows, stored.kernel, routing=UNEVEN)
        if not stored.on_host or self.host is None:
            return here
        routed = rows * made.top_k * made.here / made.experts
        chosen = active_experts(made.here, routed, routed / rows, UNEVEN.spread)
        each = shape.matrices * made.hidden * made.inner
        there = self.host.seconds(rows, chosen * each * stored.itemsize, 2 * rows * made.top_k * each, here)
        return (1 - stored.on_host) * here + stored.on_host * there

    def _scan(self, made: Scan, work: StepWork) -> float:
        """State read and written once a sequence and pass; the products of a chunked scan at the rate of small ones."""
        moved = 2 * made.state * (work.prompts + work.sequences)
        scanned = made.flops * work.prompts * work.tokens / (SCANNED * self.law.peak("bf16"))
        return 2 * START + max(self.law.moved(moved), scanned)

    def _messages(self, rows: float) -> float:
        o, size = self.operators, HALF * rows * self.operators.hidden
        seconds = 0.0
        if self.tp > 1 and o.all_reduces:
            seconds += o.all_reduces * self._all_reduce(size)
        if o.routed_copies:
            layers = sum(count for _, count in o.grouped)
            copies = min(o.routed_copies / layers, self.ep)
            seconds += 2 * layers * self._collective("all-to-all", self.ep, size * copies / self.tp)
        if self.pp > 1:
            seconds += (self.pp - 1) * self.law.sent(size / self.tp, far=self.tp * self.pp > self.law.hardware.domain)
        return seconds

    def _all_reduce(self, size: float) -> float:
        """The engine's own inside a node, NCCL's where that is faster or ranks are apart."""
        plain = self._collective("all-reduce", self.tp, size)
        if self.tp > self.law.hardware.domain:
            return plain
        return min(plain, self.law.engine_all_reduce(self.engine, self.tp, size))

    def _collective(self, kind: str, ranks: int, size: float) -> float:
        return self.law.collective(kind, ranks, size, inside=min(ranks, self.law.hardware.domain))
