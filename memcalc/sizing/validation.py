"""Every published measurement beside what memcalc says of that run, sized as any other."""

from typing import NamedTuple

from memcalc.caches import cached
from memcalc.estimates.validation import Validation
from memcalc.estimates.validation import validate as validate_training
from memcalc.estimates.validation_serving import ServingValidation, validate_serving
from memcalc.readers.measured import cases, served_cases
from memcalc.sizing.serving import serving_run
from memcalc.sizing.training import training_run


class Validated(NamedTuple):
    training: Validation
    serving: ServingValidation


@cached(1)
def validate() -> Validated:
    """Predict all rows of presets/measured. Their lengths are what was run, however far the model reaches."""
    trained = (
        (row.replace(run=training_run(architecture, row.run, seq_len=row.run.seq_len)) if row.run else row, architecture)
        for row, architecture in cases()
    )
    served = (
        (
            row.replace(serving=serving_run(known, row.serving, context=row.serving.context)) if row.serving and known else row,
            known,
        )
        for row, known in served_cases()
    )
    return Validated(validate_training(trained), validate_serving(served))
