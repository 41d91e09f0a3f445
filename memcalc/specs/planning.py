"""What a plan is for: within which time, for how much money, and how many layouts to show."""

from typing import Annotated

from memcalc.specs.spec import OneOf, Spec, SpecError, rule, setting, within

GOALS = "Goals"
RANKED = {"time": "the fewest seconds a token", "money": "the fewest USD a token (GPU time where no price is known)"}


class PlanGoals(Spec):
    """Beside the settings of the run."""

    deadline: Annotated[float, within(1e-6, 1e6)] | None = setting(
        None, "Days that it may take (needs --tokens).", GOALS, kind="days", otherwise="any"
    )
    budget: Annotated[float, within(1e-6, 1e15)] | None = setting(
        None, "USD that it may cost (needs --tokens).", GOALS, otherwise="any"
    )
    tokens: Annotated[int, within(1, 10**20)] | None = setting(None, "Training tokens, for days and USD.", GOALS)
    price: Annotated[float, within(1e-6, 1e6)] | None = setting(
        None, "USD a GPU-hour.", GOALS, otherwise="a dated list's usual one"
    )
    rank: Annotated[str, OneOf(tuple(RANKED))] | None = setting(
        None, "What is best.", GOALS, otherwise="time; money where numbers of GPUs or accelerators are compared", choices=RANKED
    )
    top: Annotated[int, within(1, 200)] = setting(8, "Layouts to list.", GOALS)

    @rule("deadline", "budget", "tokens")
    def _check_goals(self) -> None:
        for name in ("deadline", "budget"):
            if getattr(self, name) is not None and self.tokens is None:
                raise SpecError("of how many tokens? add tokens", name, "tokens")


SERVED_BY = {"money": "the fewest USD a token (GPU time where no price is known)", "speed": "the most tokens a second"}


class ServingGoals(Spec):
    """What a deployment must reach, and how many layouts to show."""

    ttft: Annotated[float, within(1e-6, 1e6)] | None = setting(
        None, "Seconds to the first token, at most.", GOALS, otherwise="any"
    )
    tpot: Annotated[float, within(1e-6, 1e6)] | None = setting(
        None, "Seconds a further token takes, at most.", GOALS, otherwise="any"
    )
    price: Annotated[float, within(1e-6, 1e6)] | None = setting(
        None, "USD a GPU-hour.", GOALS, otherwise="a dated list's usual one"
    )
    rank: Annotated[str, OneOf(tuple(SERVED_BY))] | None = setting(
        None, "What is best.", GOALS, otherwise="money", choices=SERVED_BY
    )
    top: Annotated[int, within(1, 200)] = setting(8, "Layouts or models to list.", GOALS)
