"""How fast a model is served by the time law: one prompt and one step, and what requests see, alone or under a load."""

from memcalc.estimates.serving.clock import OperatorSeconds
from memcalc.estimates.serving.load import Load, Server, under_load
from memcalc.formulas.speed_residuals import SpeedRange, speed_range
from memcalc.frozen import NamedTuple


class TimedQuestion(NamedTuple):
    """What is to be timed, of one group of a replica."""

    prompt: int
    context: int
    answer: int | None  # tokens; None: not said
    sequences: int  # that decode in a step
    replicas: int  # data-parallel copies of the model
    concurrency: int | None = None  # requests in flight on the deployment
    slots: float | None = None  # requests that a group runs at once; None: as many as there are


class ServedTime(NamedTuple):
    """Seconds and rates of the whole deployment; `parts` are of a rank's device."""

    prefill: float | None  # None, and all that follows from it: what arithmetic takes is not known
    prefill_parts: OperatorSeconds | None
    prefill_rate: float | None
    decode: float
    decode_parts: OperatorSeconds
    decode_rate: float
    sequence_rate: float
    waiting: float  # s of a decode step that the device waits for the host
    ttft: float | None
    tpot: float
    requests_per_second: float | None
    batch_seconds: float | None  # from the first prompt of a group's requests, all there at once, to their last token
    load: Load | None  # of one group, where there is a load
    groups: int  # that share the load
    speculative: bool
    ranges: dict[str, SpeedRange]

    def low_high(self, name: str) -> tuple[float, float]:
        """The ends of the range of a quantity: ttft, tpot or requests_per_second."""
        value, found = getattr(self, name), self.ranges[name]
        return value * (1 + found.low), value * (1 + found.high)


def timed(server: Server, asked: TimedQuestion, *, kind: str) -> ServedTime:
    """`kind`: dense or experts, whose rows the ranges rest on."""
    rank, context = server.rank, float(asked.context)
    groups = rank.groups * asked.replicas
    decode = server.decode(asked.sequences, context)
    each = server.speculation.tokens / decode
    tpot = 1 / each
    if asked.answer is not None:
        tpot = server.decode(asked.sequences, asked.prompt + asked.answer / 2) / server.speculation.tokens
    load = batch = prefill = parts = rate = ttft = None
    if server.reads:
        prefill, parts = server.prefill(asked.prompt), server.prefill_parts(asked.prompt)
        reading = server.prefill_all(asked.prompt, rank.pp) / rank.pp
        rate = asked.prompt * groups / reading
        ttft = prefill + server.waiting(1)
    if asked.answer is not None and server.reads:
        batch = server.prefill_all(asked.prompt, asked.sequences) + asked.answer * tpot
        requests = asked.sequences if asked.concurrency is None else max(1.0, asked.concurrency / groups)
        load = under_load(server, requests, asked.prompt, asked.answer, asked.slots)
        if asked.concurrency is not None:
            ttft, tpot = load.ttft, load.tpot
    work = server.decoding(asked.sequences, context)
    row = rank.engine
    names = ("ttft_load" if asked.concurrency is not None else "ttft", "tpot", "requests_per_second")
    return ServedTime(
        prefill, parts, rate,
        decode, server.parts([work]), asked.sequences * each * groups, each, server.waiting(work.sequences), ttft, tpot,
        load.requests_per_second * groups if load else None, batch, load, groups,
        server.speculation.guesses > 0,
        dict(zip(("ttft", "tpot", "requests_per_second"), (speed_range(name, row, kind) for name in names), strict=True)),
    )  # fmt: skip
