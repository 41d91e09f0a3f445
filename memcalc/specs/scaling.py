"""What is asked of the scaling laws: a budget, or the parameters, the tokens or both of a model."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from memcalc.formulas import scaling_laws
from memcalc.specs.spec import OneOf, Spec, SpecError, rule, setting, within
from memcalc.units import format_flops

LEAST, MOST = 1e9, 1e36  # from a model of some thousand parameters to far beyond any machine
GIVEN = ("flops", "pf_days", "gpu_hours", "params", "model", "tokens")


SCALING_LAWS = tuple(scaling_laws.LAWS)


class ScalingQuestion(Spec):
    """One budget, however it is said; or `params` (a count, or those of `model`), `tokens`, or both of a model to judge."""

    flops: Annotated[float, within(LEAST, MOST)] | None = setting(
        None, "Budget: 5.76e23, 576 ZFLOP or '3640 PF-days'.", kind="flops"
    )
    pf_days: Annotated[float, within(1e-10, 1e15)] | None = setting(None, "Budget in petaFLOP/s-days.")
    gpu_hours: Annotated[float, within(1e-9, 1e15)] | None = setting(None, "Budget in GPU-hours of a --gpu at an --mfu.")
    gpu: str | None = setting(None, "Accelerator of those hours, as in `memcalc gpus`.", metavar="NAME")
    mfu: Annotated[float, within(0.001, 1.0)] | None = setting(
        None, "Share of its dense peak that training uses.", kind="share", otherwise="0.4"
    )
    params: Annotated[int, within(1000, 10**18)] | None = setting(
        None, "Parameters: asks for the tokens. With --tokens: how far is this from optimal?"
    )
    model: str | None = setting(None, "The same, of a preset or config.json (active parameters).", metavar="MODEL")
    tokens: Annotated[int, within(1000, 10**21)] | None = setting(None, "Training tokens: asks for the parameters.")
    law: Annotated[tuple[Annotated[str, OneOf(SCALING_LAWS)], ...], Field(strict=False)] = setting(
        (), "Only this law (repeatable); the first answers.", otherwise="all", metavar="NAME", kind="repeated"
    )
    inference_tokens: Annotated[int, within(1, 10**24)] | None = setting(
        None, "Tokens it will serve: the least compute over its life."
    )
    unique_tokens: Annotated[int, within(1000, 10**21)] | None = setting(
        None, "Unique tokens there are: what repeating them is worth."
    )

    @model_validator(mode="before")
    @classmethod
    def _check_first(cls, values: Any) -> Any:
        """Laws that were never published, and compute beyond any law, are refused with their reason."""
        if isinstance(values, dict):
            for name in values.get("law") or ():
                if name in scaling_laws.UNPUBLISHED:
                    scaling_laws.law(name)  # says why it is refused
            if isinstance(flops := values.get("flops"), (int, float)):
                check_flops(flops, "flops")
        return values

    @rule()
    def _check(self) -> None:
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
    if not LEAST <= flops <= MOST:
        low, high = format_flops(LEAST), format_flops(MOST)
        raise SpecError(f"{format_flops(flops)} is out of range; between {low} and {high} are accepted", *fields)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
