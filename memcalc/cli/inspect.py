"""`memcalc inspect PATH`."""

import click

from memcalc.cli.options import output_options, preset_option, show


@click.command("inspect", no_args_is_help=True)
@click.argument("path")
@preset_option
@output_options
def inspect_command(path: str, presets: tuple[str, ...], format_: str, get: str | None, output: str | None) -> None:
    """What a model holds: architecture, parameters by role and layer, memory per number format.

    PATH is a config.json, a folder holding one, or a preset name.
    """
    from memcalc.errors import InputError
    from memcalc.readers.models import read_model
    from memcalc.report.model import inspect_report

    found = read_model(path, presets)
    if found.architecture is None:
        raise InputError(f"{path!r:.60} is a parameter count; there is nothing to inspect in it", place="PATH")
    show(inspect_report(found.name, found.architecture, found.source), format_, get, output)
