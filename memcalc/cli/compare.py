"""`memcalc compare train|infer MODEL --vary …` and `memcalc compare FILE…`."""

from typing import Any

import click

from memcalc.cli.amounts import TYPES
from memcalc.cli.options import (
    GroupedCommand,
    ModelArgument,
    gpu_option,
    output_options,
    preset_option,
    show_answer,
    spec_options,
)

OF = {"train": ("Device", "Parallelism", "Training"), "infer": ("Device", "Serving", "ServingQuestion")}
OUTPUT_FIELD = "cases[0].values"


class CompareGroup(click.Group):
    """`train` and `infer` are commands of their own; a MODEL alone is trained; without --vary there are sizing files."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            varies = any(word == "--vary" or word.startswith("--vary=") for word in args)
            args = ["train" if varies else "files", *args]
        from memcalc.cli.aliases import translated

        name, command, rest = super().resolve_command(ctx, args)
        return name, command, translated(name, command, rest) if name and command else rest


@click.group("compare", cls=CompareGroup, no_args_is_help=True)
def compare_command() -> None:
    """Settings side by side, with what each figure is more or less than the first.

    \b
    memcalc compare train llama-3.1-8b --gpus 8 --gpu h100 --vary zero=1,2 --vary recompute=none,full
    memcalc compare infer llama-3.1-8b --gpu l4 --vary weights=bf16,int8 --column capacity.max_context
    memcalc compare examples/memcalc.toml
    """


def _comparing(function: Any) -> Any:
    for option in (
        click.option("--column", "columns", multiple=True, metavar="KEY", help="A key of the JSON to show (repeatable)."),
        click.option(
            "--vary", multiple=True, metavar="KEY=A,B",
            help="A setting, model or gpu, with the values to compare (repeatable); words of a list are joined with +.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def _varying(command: str) -> Any:
    """The command that compares settings of another."""

    @click.command(command, cls=GroupedCommand, no_args_is_help=True)
    @click.argument("model", cls=ModelArgument)
    @gpu_option
    @spec_options(*OF[command])
    @_comparing
    @preset_option
    @output_options(OUTPUT_FIELD)
    def varying(
        model: str, gpu: str | None, vary: tuple[str, ...], columns: tuple[str, ...], presets: tuple[str, ...], format_: str,
        get: tuple[str, ...], output: str | None, **settings: Any,
    ) -> None:  # fmt: skip
        from memcalc.sizing.comparing import compare

        asked = dict(read_vary(text, command) for text in vary)
        found = compare(command, model, gpu, vary=asked, columns=columns, presets=presets, **settings)
        show_answer(found, (), format_, get, output)

    varying.help = f"Settings of `memcalc {command}` side by side."
    return varying


for name in OF:
    compare_command.add_command(_varying(name))


@compare_command.command("files", hidden=True, cls=GroupedCommand)
@click.argument("files", nargs=-1, required=True)
@click.option("--column", "columns", multiple=True, metavar="KEY", help="A key of the JSON to show (repeatable).")
@preset_option
@output_options(OUTPUT_FIELD)
def files_command(
    files: tuple[str, ...], columns: tuple[str, ...], presets: tuple[str, ...], format_: str, get: tuple[str, ...],
    output: str | None,
) -> None:  # fmt: skip
    """The scenarios of sizing files side by side."""
    from memcalc.sizing.comparing import compare_files

    show_answer(compare_files(files, columns=columns, presets=presets), (), format_, get, output)


def read_vary(text: str, command: str) -> tuple[str, tuple[Any, ...]]:
    """`zero=1,2,3` as a setting with its values, each read as its option would be."""
    from memcalc.cli.spec_options import ROWS
    from memcalc.errors import nearest

    name, found, values = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    kinds = {row[0]: row[1] for spec in OF[command] for row in ROWS[spec]} | {"model": "text", "gpu": "text"}
    if not found or not values.strip():
        raise click.BadParameter(f"{text!r:.60} is no setting with values; write zero=1,2,3", param_hint="--vary")
    if name not in kinds:
        raise click.BadParameter(f"no setting {name!r:.60}{nearest(name, kinds)}", param_hint="--vary")
    read = [_read(word.strip(), kinds[name], name) for word in values.split(",") if word.strip()]
    return name, tuple(read)


SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _read(word: str, kind: str, name: str) -> Any:
    if kind == "flag":
        if word.lower() not in SWITCH:
            raise click.BadParameter(f"{name}: {word!r:.40} is neither on nor off", param_hint="--vary")
        return SWITCH[word.lower()]
    if kind in ("words", "repeated"):
        return () if word == "none" else tuple(part for part in word.split("+") if part)
    type_ = TYPES[kind]
    try:
        return type_.convert(word, None, None) if type_ else word
    except click.BadParameter as error:
        raise click.BadParameter(f"{name}: {error.message}", param_hint="--vary") from None
