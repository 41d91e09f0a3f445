"""`memcalc models`, `gpus`, `formats`, `optimizers`, `engines`: tables of what there is, filtered by text; one by name."""

import click

from memcalc.cli.options import GroupedCommand, output_options, preset_option, show
from memcalc.errors import InputError


def one_or_filter(name: str | None, text: str | None) -> None:
    """A name shows one row, a filter several: both at once contradict each other."""
    if name is not None and text is not None:
        raise InputError(f"filters the list, but {name!r:.40} asks for one row; give one of them", place="--filter")


@click.command("models", cls=GroupedCommand)
@click.argument("name", required=False)
@click.option("--filter", "text", metavar="TEXT", help="Only rows that contain TEXT.  [default: all]")
@preset_option
@output_options("models.0.parameters")
def models_command(
    name: str | None, text: str | None, presets: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None
) -> None:
    """List model presets; with a NAME, show one in full."""
    one_or_filter(name, text)
    if name is None:
        from memcalc.report.listings import models_report

        show(models_report(presets, text), format_, get, output)
        return
    from memcalc.readers.models import read_model_preset
    from memcalc.report.inspection import inspect_report

    found = read_model_preset(name, presets)
    assert found.architecture is not None  # a preset always holds one
    show(inspect_report(found.name, found.architecture, found.source), format_, get, output)


@click.command("gpus", cls=GroupedCommand)
@click.argument("name", required=False)
@click.option("--filter", "text", metavar="TEXT", help="Only rows that contain TEXT.  [default: all]")
@preset_option
@output_options("gpus.0.usable")
def gpus_command(
    name: str | None, text: str | None, presets: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None
) -> None:
    """List accelerators; with a NAME, show one in full."""
    one_or_filter(name, text)
    from memcalc.report.listings import gpu_report, gpus_report

    show(gpu_report(name, presets) if name else gpus_report(presets, text), format_, get, output)


def _table(name: str, help_: str, field: str) -> click.Command:
    """A command that lists the rows of one of memcalc's own tables; with a NAME, shows one in full."""

    @click.command(name, help=help_, cls=GroupedCommand)
    @click.argument("row", metavar="[NAME]", required=False)
    @click.option("--filter", "text", metavar="TEXT", help="Only rows that contain TEXT.  [default: all]")
    @output_options(field)
    def command(row: str | None, text: str | None, format_: str, get: tuple[str, ...], output: str | None) -> None:
        one_or_filter(row, text)
        from memcalc.report.listings import TABLES

        show(TABLES[name](row, text), format_, get, output)

    return command


formats_command = _table(
    "formats", "List number formats with their exact bits per value; with a NAME, show one in full.", "formats.0.bits_per_value"
)
optimizers_command = _table(
    "optimizers", "List optimizers with the states they keep; with a NAME, show one in full.", "optimizers.0.states"
)
engines_command = _table(
    "engines", "List training and serving engines with their defaults; with a NAME, show one in full.", "serving.0.block"
)
