"""What is asked of the scaling laws: a budget, or the parameters, the tokens or both of a model."""

from dataclasses import dataclass
from typing import Annotated

from memcalc.formulas import scaling_laws
from memcalc.specs.rules import Choice, Range, SpecError, check_fields
from memcalc.units import format_flops

FLOPS = Range(1e9, 1e36)  # from a model of some thousand parameters to far beyond any machine
GIVEN = ("flops", "pf_days", "gpu_hours", "params", "model", "tokens")


@dataclass(frozen=True, kw_only=True)
class ScalingQuestion:
    """One budget, however it is said; or `params` (a count, or those of `model`), `tokens`, or both of a model to judge."""

    flops: Annotated[float, FLOPS] | None = None
    pf_days: Annotated[float, Range(1e-10, 1e15)] | None = None
    gpu_hours: Annotated[float, Range(1e-9, 1e15)] | None = None
    gpu: str | None = None
    mfu: Annotated[float, Range(0.001, 1.0)] | None = None
    params: Annotated[int, Range(1000, 10**18)] | None = None
    model: str | None = None
    tokens: Annotated[int, Range(1000, 10**21)] | None = None
    law: Annotated[tuple[str, ...], Choice(tuple(scaling_laws.LAWS))] = ()
    inference_tokens: Annotated[int, Range(1, 10**24)] | None = None
    unique_tokens: Annotated[int, Range(1000, 10**21)] | None = None

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by Pydantic, never changed

    def __post_init__(self) -> None:
        self._check_laws()
        if isinstance(self.flops, (int, float)):
            check_flops(self.flops, "flops")
        check_fields(self)
        self._check_given()
        self._check_gpu()
        if self.inference_tokens is not None and not self.laws[0].has_surface:
            able = ", ".join(name for name, row in scaling_laws.LAWS.items() if row.has_surface)
            raise SpecError(
                f"{self.laws[0].name} predicts no loss to hold fixed while the model shrinks; name another law ({able})",
                "inference_tokens",
                "law",
            )

    @property
    def given(self) -> tuple[str, ...]:
        """The fields that say what is asked."""
        return tuple(name for name in GIVEN if getattr(self, name) is not None)

    @property
    def laws(self) -> tuple[scaling_laws.Law, ...]:
        """The laws asked for, the first of which answers; all of them when none is named."""
        return tuple(scaling_laws.law(name) for name in dict.fromkeys(self.law or scaling_laws.LAWS))

    def _check_laws(self) -> None:
        for name in set(self.law) & scaling_laws.UNPUBLISHED.keys():
            scaling_laws.law(name)  # says why it is refused

    def _check_given(self) -> None:
        given = self.given
        if not given:
            raise SpecError(f"nothing to start from; give one of {', '.join(_option(name) for name in GIVEN)}")
        sizes = [name for name in given if name in ("params", "model")]
        if len(sizes) > 1:
            raise SpecError("both say how large the model is; give one", *sizes)
        budgets = [name for name in given if name in ("flops", "pf_days", "gpu_hours")]
        if len(budgets) > 1:
            raise SpecError("each is a budget of its own; give one", *budgets)
        if budgets and len(given) > 1:
            others = given[len(budgets) :]
            raise SpecError(
                "a budget already fixes the optimal parameters and tokens; give it alone, "
                f"or {_option('params')} and {_option('tokens')} to judge a model",
                *budgets,
                *others,
            )

    def _check_gpu(self) -> None:
        if self.gpu_hours is not None and self.gpu is None:
            raise SpecError("hours of what? add --gpu NAME", "gpu_hours")
        for name in ("gpu", "mfu"):
            if self.gpu_hours is None and getattr(self, name) is not None:
                raise SpecError("turns GPU-hours into FLOP, and there are none; add --gpu-hours", name)


def check_flops(flops: float, *fields: str) -> None:
    """Refuse compute that no law can be asked about, whatever fields it comes from."""
    if not FLOPS.low <= flops <= FLOPS.high:
        low, high = format_flops(FLOPS.low), format_flops(FLOPS.high)
        raise SpecError(f"{format_flops(flops)} is out of range; between {low} and {high} are accepted", *fields)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
