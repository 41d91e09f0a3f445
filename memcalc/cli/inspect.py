"""`memcalc inspect PATH`."""

import click

from memcalc.cli.options import GroupedCommand, output_options, preset_option, show


@click.command("inspect", cls=GroupedCommand, no_args_is_help=True)
@click.argument("path")
@preset_option
@output_options("model.parameters")
def inspect_command(path: str, presets: tuple[str, ...], format_: str, get: str | None, output: str | None) -> None:
    """What a model holds: architecture, parameters by role and layer, memory per number format.

    PATH is a config.json, a safetensors or GGUF file, a shard index, a folder holding one of these, a preset name, or
    hf://org/name[@revision] (with memcalc[hub]). Of weight files only the headers are read.
    """
    from memcalc.errors import InputError
    from memcalc.readers.models import read_contents
    from memcalc.report.model import inspect_report

    found = read_contents(path, presets)
    if found.architecture is None and found.stored is None:
        raise found.problem or InputError(f"{path!r:.60} is a parameter count; there is nothing to inspect in it", place="PATH")
    show(inspect_report(found.name, found.architecture, found.source, found.stored, found.problem), format_, get, output)
