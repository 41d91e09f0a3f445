"""`memcalc check FILE…`."""

import os

import click

from memcalc.cli.options import output_options, preset_option, show

DEFAULT_FILE = "memcalc.toml"


@click.command("check")
@click.argument("files", nargs=-1)
@preset_option
@output_options
@click.pass_context
def check_command(
    ctx: click.Context, /, files: tuple[str, ...], presets: tuple[str, ...], format_: str, get: str | None, output: str | None
) -> None:
    """Check sizing files against their limits: exit code 0 when all hold, 1 when one is exceeded, 2 when a file is wrong.

    Without FILE, memcalc.toml of the current folder. `memcalc schema` prints what such a file may hold.
    """
    from memcalc.errors import InputError, MemcalcError
    from memcalc.estimates.checking import check
    from memcalc.readers.catalogue import accelerator
    from memcalc.readers.models import read_model
    from memcalc.readers.sizing import read_sizing
    from memcalc.report.checking import Outcome, report

    outcomes = []
    for path in files or (DEFAULT_FILE,):
        for file, name, scenario in read_sizing(path):
            model = scenario.model
            beside = os.path.join(os.path.dirname(file), model)
            found = read_model(beside if os.path.exists(beside) else model, presets)
            if found.architecture is None:
                raise InputError("a parameter count cannot be checked; name a preset or a config.json", place=f"{file}: model")
            try:
                checks = check(scenario, found.architecture, accelerator(scenario.gpu, presets))
            except MemcalcError as error:
                raise InputError(str(error), place=f"{file}: {name}") from None
            outcomes.append(Outcome(file, name, checks))
    show(report(outcomes), format_, get, output)
    if not all(outcome.holds for outcome in outcomes):
        ctx.exit(1)
