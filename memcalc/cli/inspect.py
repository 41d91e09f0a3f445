"""`memcalc inspect PATH`."""

import click

from memcalc.cli.options import GroupedCommand, explain_option, output_options, preset_option, show_answer


@click.command("inspect", cls=GroupedCommand, no_args_is_help=True)
@click.argument("path")
@preset_option
@explain_option
@output_options("model.parameters")
def inspect_command(
    path: str, presets: tuple[str, ...], explain: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None
) -> None:
    """What a model holds: architecture, parameters by role and layer, memory per number format.

    PATH is a config.json, a safetensors or GGUF file, a shard index, a folder holding one of these, a preset name, or
    hf://org/name[@revision] (with memcalc[hub]). Of weight files only the headers are read.
    """
    from memcalc.sizing.inspecting import inspected

    show_answer(inspected(path, presets), explain, format_, get, output)
