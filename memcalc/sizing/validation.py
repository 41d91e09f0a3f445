"""Every published measurement beside what memcalc says of that run, sized as any other."""

from memcalc.caches import cached
from memcalc.estimates.validation import Skipped, Validation
from memcalc.estimates.validation import validate as validate_training
from memcalc.estimates.validation_serving import ServingValidation, validate_serving
from memcalc.estimates.validation_time import TimeResidual
from memcalc.frozen import NamedTuple
from memcalc.readers.measured import cases, served_cases
from memcalc.sizing.serving_run import serving_run
from memcalc.sizing.training import training_run


class Validated(NamedTuple):
    """Published measurements of memory beside what was predicted, of training and of serving."""

    training: Validation
    serving: ServingValidation


class TimeValidation(NamedTuple):
    """Published speeds: what was predicted, and what could not be, with the reason."""

    residuals: tuple[TimeResidual, ...]
    skipped: tuple[Skipped, ...]


@cached(1)
def validate_time() -> TimeValidation:
    """Time every published training run with the settings that it states."""
    from memcalc.errors import MemcalcError
    from memcalc.estimates.step_time.step import PARTS, step_time
    from memcalc.readers.step_times import published_speeds
    from memcalc.readers.timing import time_law

    residuals, skipped = [], []
    for row in published_speeds():
        try:
            run = training_run(row.architecture, None, **row.settings)
            step = step_time(row.architecture, run, time_law(row.gpu, row.network))
        except MemcalcError as error:
            skipped.append(Skipped(row.id, row.grade, str(error)))
            continue
        left_out = step.parts[PARTS.index("optimizer")] if row.without_optimizer else 0.0
        predicted = step.tokens / (step.seconds - left_out) / step.gpus
        residuals.append(
            TimeResidual(row.id, row.group, row.kind, row.grade, row.gpu.id, run.engine_row.name,
                         row.tokens_per_second_per_gpu, predicted, row.fitted)
        )  # fmt: skip
    return TimeValidation(tuple(residuals), tuple(skipped))


@cached(4)
def validate(folders: tuple[str, ...] = ()) -> Validated:
    """Predict all rows of presets/measured, or those of one's own folders. Their lengths are what was run, whatever the model's
    positions."""
    trained = (
        (row.replace(run=training_run(architecture, row.run, seq_len=row.run.seq_len)) if row.run else row, architecture)
        for row, architecture in cases(folders)
    )
    served = (
        (
            row.replace(serving=serving_run(known, row.serving, context=row.serving.context)) if row.serving and known else row,
            known,
        )
        for row, known in served_cases(folders)
    )
    return Validated(validate_training(trained), validate_serving(served))
