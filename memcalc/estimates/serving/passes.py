"""One pass through a model that serves, a prefill or a decode step: the time that computing, memory and link each take."""

from memcalc.estimates.lines import Figure, figure
from memcalc.estimates.serving.bytes_moved import Traffic
from memcalc.formulas import roofline as formulas
from memcalc.frozen import NamedTuple


class Pass(NamedTuple):
    """What each resource takes [s], and which takes longest."""

    compute: Figure | None  # None: no published peak
    memory: Figure
    link: Figure | None  # None: nothing is sent, or the link is not known
    seconds: Figure
    serial: Figure  # if nothing overlapped
    experts: tuple[Figure, ...]  # bytes of routed experts that are read
    moved: Figure  # bytes through one rank's memory, those included
    sent: tuple[Figure, ...]  # bytes that one rank sends

    @property
    def bound(self) -> str:
        """compute, memory or link: the one that takes longest, of equal ones the first."""
        found = [(name, time.value) for name in ("compute", "memory", "link") if (time := getattr(self, name))]
        return max(found, key=lambda entry: entry[1])[0]

    @property
    def figures(self) -> tuple[Figure, ...]:
        found = (*self.experts, self.moved, *self.sent, self.compute, self.memory, self.link, self.seconds, self.serial)
        return tuple(entry for entry in found if entry)


class Machine(NamedTuple):
    """The ranks that run a pass and the rates of each, FLOP/s and B/s; efficiencies are shares of them."""

    hidden: int  # width of the hidden states that ranks send each other
    bytes_each: int  # of one of their elements
    tp: int
    pp: int
    ep: int
    peak: float | None
    bandwidth: float
    link: float | None
    mfu: float
    mbu: float
    link_efficiency: float

    @property
    def replicas(self) -> int:
        """Tensor-parallel groups that share the experts, each with a batch of its own."""
        return max(1, self.ep // self.tp)

    def decode(self, need: Traffic, flops: float, batch: int) -> Pass:
        """One token for each sequence. The stages of a pipeline work on a share of them each, so a step is a full round."""
        sequences = batch / min(self.pp, batch)
        experts = _experts("decode", need, sequences * self.replicas)
        moved = figure(
            "decode/bytes moved", "B", formulas.decode_bytes,
            weights=need.weights + _total(experts), sequences=sequences, cache=need.cache, state=need.state,
        )  # fmt: skip
        return self._pass("decode", need, experts, moved, flops, sequences, sequences)

    def prefill(self, need: Traffic, flops: float, prompt: int) -> Pass:
        """One prompt, which passes the stages of a pipeline one after the other."""
        experts = _experts("prefill", need, prompt)
        moved = figure(
            "prefill/bytes moved", "B", formulas.prefill_bytes,
            weights=need.weights + _total(experts), cache=need.written, state=need.state,
        )  # fmt: skip
        return self._pass("prefill", need, experts, moved, flops, 1, prompt)

    def _pass(
        self, path: str, need: Traffic, experts: tuple[Figure, ...], moved: Figure, flops: float, sequences: float,
        tokens: float,
    ) -> Pass:  # fmt: skip
        sent = self._sent(path, need, tokens)
        compute = link = None
        if self.peak:
            compute = figure(
                f"{path}/compute", "s", formulas.compute_seconds,
                flops=flops, sequences=sequences, ranks=self.tp, peak=self.peak, mfu=self.mfu,
            )  # fmt: skip
        memory = figure(
            f"{path}/memory", "s", formulas.memory_seconds, bytes_moved=moved.value, bandwidth=self.bandwidth, mbu=self.mbu
        )
        if sent and self.link:
            link = figure(
                f"{path}/link", "s", formulas.link_seconds,
                bytes_sent=_total(sent), bandwidth=self.link, efficiency=self.link_efficiency,
            )  # fmt: skip
        times = {"compute": compute.value if compute else 0.0, "memory": memory.value, "link": link.value if link else 0.0}
        seconds = figure(f"{path}/seconds", "s", formulas.bound_seconds, **times)
        serial = figure(f"{path}/seconds without overlap", "s", formulas.serial_seconds, **times)
        return Pass(compute, memory, link, seconds, serial, experts, moved, sent)

    def _sent(self, path: str, need: Traffic, tokens: float) -> tuple[Figure, ...]:
        """Bytes that one rank sends for so many tokens of its group."""
        states = {"hidden": self.hidden, "bytes_each": self.bytes_each}
        reduced = {"ranks": self.tp, "operations": need.all_reduces, "tokens": tokens}
        routed = {"ranks": self.ep, "copies": need.copies, "tokens": tokens / self.tp}
        passed = {"stages": self.pp, "tokens": tokens}
        found = (
            figure(f"{path}/all-reduces", "B", formulas.all_reduce_bytes, **reduced, **states),
            figure(f"{path}/all-to-all", "B", formulas.all_to_all_bytes, **routed, **states),
            figure(f"{path}/pipeline", "B", formulas.pipeline_bytes, **passed, **states),
        )
        return tuple(entry for entry in found if entry.value)


def _experts(path: str, need: Traffic, tokens: float) -> tuple[Figure, ...]:
    return tuple(
        figure(
            f"{path}/experts read, {choice.top_k} of {choice.experts}", "B", formulas.expert_bytes_read,
            held=choice.held, experts=choice.experts, top_k=choice.top_k, tokens=tokens,
        )
        for choice in need.routed
    )  # fmt: skip


def _total(figures: tuple[Figure, ...]) -> float:
    return sum(entry.value for entry in figures)
