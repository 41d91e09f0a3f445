"""`memcalc validate`."""

from typing import Any

import click

from memcalc.cli.options import GroupedCommand, details_option, output_options, show

TIME = "time"  # of a training step
TIMES = ("serving-speed", TIME)  # kinds of seconds


@click.command("validate", cls=GroupedCommand)
@click.option(
    "--grade", metavar="A|B|C", help="Only rows of this grade: A fully specified, B with assumptions listed.  [default: all]"
)
@click.option(
    "--engine", metavar="NAME", help="Only runs of this engine, as in `memcalc train` or `infer --engine`.  [default: all]"
)
@click.option(
    "--kind", metavar="NAME",
    help="Only values of this kind; of training: allocated, active, reserved, device; of serving: weights, weights_file, "
    "parameters, activations, kv_cache, kv_cache_window, compute_buffer, kv_tokens_of_memory, kv_tokens, max_concurrency; "
    "of seconds: serving-speed, time (of a training step).  [default: all of memory]",
)  # fmt: skip
@details_option
@click.option(
    "--presets", multiple=True, metavar="DIR",
    help="Rows of DIR/measured (`memcalc verify --save DIR`) in place of the published ones.  [default: none]",
)  # fmt: skip
@output_options("distribution.0.median")
def validate_command(
    grade: str | None,
    engine: str | None,
    kind: str | None,
    details: bool,
    presets: tuple[str, ...],
    format_: str,
    get: tuple[str, ...],
    output: str | None,
) -> None:
    """Predictions against published measurements, with the error of each.

    Every row of presets/measured with its citation, of training and of serving: predicted, measured, error, and how the
    errors are distributed. What cannot be predicted is listed with the reason.
    """
    from memcalc.errors import InputError
    from memcalc.formulas.engines import ENGINES
    from memcalc.formulas.serving_engines import SERVING_ENGINES
    from memcalc.readers.timed import timed_rows
    from memcalc.report.validation import report
    from memcalc.report.validation_time import time_report
    from memcalc.sizing.validation import validate, validate_time
    from memcalc.specs.measured import KINDS
    from memcalc.specs.published import GRADES
    from memcalc.specs.served import QUANTITIES
    from memcalc.specs.spec import OneOf, SpecError

    served = kind in TIMES and kind != TIME
    measured = tuple(dict.fromkeys(row.engine for row in timed_rows())) if served else (*ENGINES, *SERVING_ENGINES)
    accepted_names = (GRADES, measured, (*KINDS, *QUANTITIES, *TIMES))
    wanted = {"grade": grade, "engine": engine, "kind": kind}
    for (name, value), accepted in zip(wanted.items(), accepted_names, strict=True):
        if value is not None:
            try:
                OneOf(accepted).check(name, value)
            except SpecError as error:
                raise InputError(error.message, place=f"--{name}") from None

    def keep(row: Any) -> bool:
        """Rows without such a field (a run that ended out of memory has no kind) are of no kind and no engine."""
        return all(value is None or getattr(row, name, None) == value for name, value in wanted.items())

    if presets and kind in TIMES:
        raise InputError("rows of one's own are of memory, not of time", place="--presets")
    if kind in TIMES:
        wanted["kind"] = None  # which all rows are of
    if kind == TIME:
        shown = time_report(*validate_time(), keep)
    elif kind in TIMES:
        from memcalc.report.validation_speed import speed_report
        from memcalc.sizing.validation_speed import validate_speed

        shown = speed_report(validate_speed(), keep)
    else:
        shown = report(*validate(presets), keep)
    show(shown, format_, get, output, whole=details)
