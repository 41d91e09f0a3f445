"""`memcalc validate`."""

from typing import Any

import click

from memcalc.cli.options import output_options, show


@click.command("validate")
@click.option("--grade", metavar="A|B|C", help="Only rows of this grade: A fully specified, B with assumptions listed.")
@click.option("--engine", metavar="NAME", help="Only runs of this engine, as in `memcalc train --engine`.")
@click.option("--kind", metavar="allocated|active|reserved|device", help="Only values of this kind.")
@output_options
def validate_command(
    grade: str | None, engine: str | None, kind: str | None, format_: str, get: str | None, output: str | None
) -> None:
    """Predictions against published measurements, with the error of each.

    Every row of presets/measured with its citation: predicted, measured, error, and how the errors are distributed by
    engine, method and kind. What cannot be predicted is listed with the reason.
    """
    from memcalc.errors import InputError
    from memcalc.estimates.validation import validate
    from memcalc.formulas.engines import ENGINES
    from memcalc.readers.measured import cases
    from memcalc.report.validation import report
    from memcalc.specs.measured import GRADES, KINDS
    from memcalc.specs.rules import Choice, SpecError

    wanted = {"grade": grade, "engine": engine, "kind": kind}
    for (name, value), accepted in zip(wanted.items(), (GRADES, tuple(ENGINES), tuple(KINDS)), strict=True):
        if value is not None:
            try:
                Choice(accepted).check(name, value)
            except SpecError as error:
                raise InputError(error.message, place=f"--{name}") from None

    def keep(row: Any) -> bool:
        """Rows without such a field (a run that ended out of memory has no kind) are of no kind and no engine."""
        return all(value is None or getattr(row, name, None) == value for name, value in wanted.items())

    show(report(validate(cases()), keep), format_, get, output)
