"""What the scaling laws say of a budget, a model or a stock of tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memcalc.estimates.compute.scaling import ScalingAnswer, estimate
from memcalc.sizing.answer import Reported
from memcalc.sizing.settings import settled
from memcalc.sizing.subjects import as_accelerator, as_model
from memcalc.specs.scaling import ScalingQuestion

if TYPE_CHECKING:
    from memcalc.report.report import Report


class SizedScaling(Reported, ScalingAnswer):
    """The laws' answers, with the question and the name of the model in it."""

    question: ScalingQuestion
    name: str
    size: int | None  # parameters that were asked about
    presets: Sequence[str]  # the user's own folders

    def report(self) -> "Report":
        from memcalc.report.scaling import report

        return report(self.question, self, self.name)

    def __repr__(self) -> str:
        point = self.chosen.point
        return f"<{self.chosen.law.name}: {point.parameters:,.4g} parameters, {point.tokens:,.4g} tokens are optimal>"


def chinchilla(question: ScalingQuestion | None = None, *, presets: Sequence[str] = (), **settings: Any) -> SizedScaling:
    """Compute-optimal parameters and tokens under every published law. `settings` are the fields of ScalingQuestion.

    >>> chinchilla(flops=5.76e23, law=["besiroglu"])
    <besiroglu: 7.225e+10 parameters, 1.329e+12 tokens are optimal>
    """
    asked = ScalingQuestion(**settled(question, settings, ScalingQuestion))
    model = as_model(asked.model, presets) if asked.model is not None else None
    parameters = None
    if model:
        parameters = model.architecture.active_parameters if model.architecture else model.parameters
    out = SizedScaling(*estimate(asked, as_accelerator(asked.gpu, presets), parameters))
    out.question, out.name, out.presets = asked, model.name if model else "", presets
    out.size = asked.params if parameters is None else parameters
    return out
