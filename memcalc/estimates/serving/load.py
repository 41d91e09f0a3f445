"""What requests see of a replica: passes as its engine schedules them, alone and under a steady load.

An engine gives every running sequence a token in each step and reads waiting prompts beside them, in chunks of at most its
budget of tokens, or in steps of their own. Under a load of requests, each of which is followed by another, the sequences that
decode, the share of steps that read prompts and the time of a token determine each other: a fixed point.
"""

from math import ceil

from memcalc.estimates.serving.clock import OperatorSeconds, ServingRank, StepWork
from memcalc.formulas.serving_hosts import Host
from memcalc.frozen import NamedTuple

HALVINGS = 24
# Of requests in flight, the share that waits for all others' prompts. Benchmarks begin with all at once: a tenth of the
# requests of InferenceX, which sends ten times as many as run (SemiAnalysisAI/InferenceX, benchmarks/benchmark_lib.sh), and
# answers of like length end at about one time. Measured first tokens take 0.12 to 0.17 under vLLM and TensorRT-LLM.
TOGETHER = 0.15


class Speculation(NamedTuple):
    """Tokens that are guessed before each pass, which verifies them at once."""

    guesses: int
    tokens: float  # that a pass yields for a sequence: those accepted and one more
    drafter: "Server | None" = None  # None: they cost nothing
    at_once: bool = False  # in one of its passes; else one by one

    def seconds(self, sequences: float, context: float) -> float:
        passes = 1 if self.at_once else self.guesses
        return passes * self.drafter.decode(sequences, context) if self.drafter else 0.0


class Server(NamedTuple):
    """One tensor-parallel group of a replica under its engine."""

    rank: ServingRank
    host: Host
    budget: int  # tokens of a step
    speculation: Speculation = Speculation(0, 1.0)
    reads: bool = True  # what arithmetic takes is known, and so how long a prompt

    def seconds(self, work: StepWork) -> float:
        """One pass: the device, or the host that launches its kernels where that takes longer, and what the device waits."""
        device = self.rank.parts(work).seconds
        if work.prompts or work.sequences > self.host.graphs:
            device = max(device, self.rank.operators.layers * self.host.layer)
        return device + self.waiting(work.sequences)

    def waiting(self, sequences: float) -> float:
        """Time of a step that the device waits for the host."""
        return self.host.step + self.host.sequence * sequences

    def decoding(self, sequences: float, context: float) -> StepWork:
        """The pass of a decode step: each stage of a pipeline works on a share of the sequences."""
        shares = min(self.rank.pp, max(1.0, sequences))
        return StepWork(sequences=sequences / shares, context=context, queries=1 + self.speculation.guesses)

    def decode(self, sequences: float, context: float) -> float:
        """A step in which so many sequences get a token, or what speculation yields; with a pipeline, a full round."""
        work = self.decoding(sequences, context)
        return self.seconds(work) + self.speculation.seconds(work.sequences, context)

    def prefill(self, prompt: float, *, alone: bool = True) -> float:
        """Reading one prompt, chunk by chunk. Chunks follow each other through the stages of a pipeline."""
        works = self.reading(prompt, alone=alone)
        passes = self.chunks(prompt, 0)
        whole = passes * sum(self.seconds(work) for work in works) / len(works)
        return whole * self._piped(passes)

    def prefill_parts(self, prompt: float) -> OperatorSeconds:
        """What takes the device's time of `prefill`."""
        passes = self.chunks(prompt, 0)
        times = passes * self._piped(passes)
        return OperatorSeconds(*(times * part for part in self.parts(self.reading(prompt))))

    def _piped(self, passes: int) -> float:
        """The part of their sum that passes take which follow each other through the stages of a pipeline."""
        stages, following = self.rank.pp, min(passes, self.host.follow)
        return (following + stages - 1) / (following * stages)

    def prefill_all(self, prompt: float, prompts: float) -> float:
        """Reading so many prompts, as many in a pass as its budget allows; each stage of a pipeline reads others."""
        together = max(1.0, min(prompts, self.budget // prompt))
        if together <= 1:
            return prompts * self.prefill(prompt, alone=False) / min(self.rank.pp, prompts)
        passes = ceil(prompts / together)
        whole = passes * self.seconds(StepWork(prompts / passes, prompt))
        return whole * self._piped(passes)

    def burst(self, prompt: float, prompts: float) -> float:
        """Mean time until a prompt is read of so many that came together: those of one pass are done together."""
        passes = ceil(prompts / max(1.0, min(prompts, self.budget // prompt)))
        return self.prefill_all(prompt, prompts) * (1 + 1 / passes) / 2

    def reading(self, prompt: float, *, alone: bool = True) -> list[StepWork]:
        """Passes that read a prompt alone: all of them, or some whose mean time is that of all."""
        passes = self.chunks(prompt, 0)
        tokens = prompt / passes
        numbers = range(passes) if passes <= 4 else (0, (passes - 1) / 2, passes - 1)
        return [StepWork(1, tokens, number * tokens, others=0.0 if alone else None) for number in numbers]

    def chunks(self, prompt: float, beside: float) -> int:
        """Passes that a prompt is cut into, with so many tokens generated beside it."""
        return max(1, ceil(prompt / max(1.0, self.budget - beside)))

    def parts(self, works: list[StepWork]) -> OperatorSeconds:
        """Mean device time of passes, by what takes it."""
        found = [self.rank.parts(work) for work in works]
        return OperatorSeconds(*(sum(column) / len(found) for column in zip(*found, strict=True)))


class Load(NamedTuple):
    """A steady load of one group: seconds and rates."""

    sequences: float  # that decode at once; the others' prompts are read or wait
    tpot: float  # time between tokens of a request, s
    ttft: float  # from sending a request to its first token, s
    reading: float  # steps that read prompts, for each step
    chunk: float  # tokens of prompts in such a step
    requests_per_second: float
    burst: float  # wait for a first token if all that run came together, s


def under_load(server: Server, requests: float, prompt: float, answer: float, slots: float | None = None) -> Load:
    """`requests` in flight on a group, each with a prompt and an answer of so many tokens; at most `slots` run at once."""
    running = requests if slots is None else min(requests, slots)
    low, high = 0.0, running
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = _steady(server, middle, prompt, answer)
        crowded = server.host.mixed and found.reading > 1  # more prompts than steps have room for: the others wait
        if crowded or middle * (1 + found.ttft / (answer * found.tpot)) > running:
            high = middle
        else:
            low = middle
    found = _steady(server, low or high, prompt, answer)
    waited = running / found.requests_per_second - answer * found.tpot  # Little's law
    waiting = (requests - running) / found.requests_per_second
    burst = server.burst(prompt, max(1.0, found.sequences / server.rank.pp))
    return found._replace(ttft=max(found.ttft + TOGETHER * burst, waited) + waiting, burst=burst)


def _steady(server: Server, sequences: float, prompt: float, answer: float) -> Load:
    """With so many sequences decoding at any time."""
    stages, yielded, context = server.rank.pp, server.speculation.tokens, prompt + answer / 2
    step = server.decode(sequences, context)
    here = sequences / min(stages, max(1.0, sequences))  # in the pass of one stage
    arriving = here * yielded / answer  # prompts a pass
    beside = here * (1 + server.speculation.guesses) if server.host.mixed else 0.0
    passes = server.chunks(prompt, beside)
    waiting = arriving if server.host.mixed else here
    together = 1.0 if passes > 1 else min(max(1.0, waiting), max(1.0, (server.budget - beside) // prompt))
    work = StepWork(together, prompt / passes, prompt * (passes - 1) / (2 * passes))
    if server.host.mixed:
        work = work._replace(sequences=here, context=context, queries=1 + server.speculation.guesses)
    share, groups = arriving * passes / together, server.rank.groups
    # groups that share the experts wait for each other: for a prompt that any of them reads
    waited = max(share, 1 - (1 - min(1.0, share)) ** groups)
    if groups > 1 and waited:
        beside_others = work._replace(prompts=0.0).rows * (groups - 1)
        work = work._replace(others=beside_others + max(0.0, groups * share / waited - 1) * work.prompts * work.tokens)
    reading = server.seconds(work)
    own = passes * reading
    if server.host.mixed:
        reading += server.speculation.seconds(here, context)
        between = max(0.0, 1 - waited) * step + waited * reading
        burst = here * own / (2 * together)
        mean, running = _running(max(0.0, 1 - waited), step, waited, reading)
    else:  # prompts that came together are read first: a part of that is before a request's first token, the rest after it
        between = step + server.host.after * waited * reading
        burst = max(0.0, here / together - 1) * own / 2
        mean, running = _running(1.0, step, waited, reading)
    tpot = between / yielded
    ttft = server.host.request + running + server.host.ahead * mean + own
    return Load(sequences, tpot, ttft, share, together * work.tokens, sequences / (answer * tpot), burst)


def _running(plain: float, step: float, reading: float, prompts: float) -> tuple[float, float]:
    """Mean time of a step [s], and what is left of the one that runs when a request comes: long steps are met more often.

    plain, reading [count] of steps that generate alone and that read prompts, step, prompts [s] of each.
    """
    whole = plain * step + reading * prompts
    mean = whole / (plain + reading) if plain + reading else 0.0
    return mean, (plain * step**2 + reading * prompts**2) / (2 * whole) if whole else 0.0
