"""The load that a deployment is asked about, and what its speed depends on beside that."""

from typing import Annotated

from memcalc.specs.spec import HARDWARE, REQUESTS, Spec, SpecError, rule, setting, within

Length = Annotated[int, within(1, 2**31)]


class ServingLoad(Spec):
    """Requests in flight, each followed by another, with so many tokens each."""

    concurrency: Annotated[int, within(1, 2**24)] | None = setting(
        None, "Requests in flight on the whole deployment, each followed by another: speed under that load.", REQUESTS,
        otherwise="no load: --batch requests that are there",
    )  # fmt: skip
    input_len: Length | None = setting(None, "Tokens of each prompt.", REQUESTS, otherwise="--context less --max-new-tokens")
    output_len: Length | None = setting(None, "Tokens of each answer.", REQUESTS, otherwise="--max-new-tokens")
    acceptance: Annotated[float, within(0.0, 1.0)] | None = setting(
        None, "Share of a draft's guesses that are right, each given that those before it are.", REQUESTS, kind="share",
        otherwise="none: no speed with a draft",
    )  # fmt: skip
    host_bandwidth: Annotated[float, within(1e6, 1e16)] | None = setting(
        None, "Of host memory, for layers that stand there: 90GB/s.", HARDWARE, kind="bandwidth",
        otherwise="80 GB/s, assumed",
    )  # fmt: skip

    @rule("input_len", "output_len")
    def _check_lengths(self) -> None:
        if (self.input_len is None) != (self.output_len is None):
            raise SpecError("the lengths of prompts and answers go together; give both", "input_len", "output_len")
