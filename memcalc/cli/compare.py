"""`memcalc compare train|infer MODEL --vary …`, the same with --from FILE, and `memcalc compare FILE…`."""

from typing import Any

import click

from memcalc.cli.amounts import TYPES
from memcalc.cli.options import (
    GroupedCommand,
    ModelArgument,
    check_model,
    from_option,
    gpu_option,
    output_options,
    preset_option,
    show_answer,
    spec_options,
)

OF = {"train": ("Device", "Parallelism", "Training"), "infer": ("Device", "Serving", "ServingQuestion")}
OUTPUT_FIELD = "cases[0].values"


class CompareGroup(click.Group):
    """`train` and `infer` are commands of their own; a MODEL alone is trained, launch files are what they start; without
    --vary there are sizing files."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].partition("=")[0] == "--from" and not ctx.resilient_parsing:
            args = [_command_of(args), *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            varies = any(word == "--vary" or word.startswith("--vary=") for word in args)
            args = [_command_of(args) if varies else "files", *args]
        from memcalc.cli.aliases import translated

        name, command, rest = super().resolve_command(ctx, args)
        return name, command, translated(name, command, rest) if name and command else rest


@click.group("compare", cls=CompareGroup, no_args_is_help=True)
def compare_command() -> None:
    """Settings side by side, with what each figure is more or less than the first.

    \b
    memcalc compare train llama-3.1-8b --gpus 8 --gpu h100 --vary zero=1,2 --vary recompute=none,full
    memcalc compare infer llama-3.1-8b --gpu l4 --vary weights=bf16,int8 --column capacity.max_context
    memcalc compare --from examples/launch/train.sh --gpu h100 --vary zero=1,2,3
    memcalc compare examples/memcalc.toml
    """


def _command_of(args: list[str]) -> str:
    """What launch files among words of a command line start: a run, or a server."""
    files = [word.partition("=")[2] for word in args if word.startswith("--from=")]
    files += [args[place + 1] for place, word in enumerate(args[:-1]) if word == "--from"]
    if not files:
        return "train"
    from memcalc.sizing.importing import launched

    return launched(*files)[0].question.command


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
    @click.argument("model", required=False, cls=ModelArgument)
    @from_option
    @gpu_option
    @spec_options(*OF[command])
    @_comparing
    @preset_option
    @output_options(OUTPUT_FIELD)
    def varying(
        model: str | None, launch: tuple[str, ...], gpu: str | None, vary: tuple[str, ...], columns: tuple[str, ...],
        presets: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None, **settings: Any,
    ) -> None:  # fmt: skip
        from memcalc.sizing.comparing import compare

        asked = dict(read_vary(text, command) for text in vary)
        files, which = None, model
        if launch:
            from memcalc.sizing.planning_launch import varied_from

            which, gpu, settings, files = varied_from(command, launch, model, gpu, settings, asked)
        elif "model" not in asked:
            check_model(f"compare {command}", model)
        found = compare(command, which, gpu, vary=asked, columns=columns, presets=presets, **settings)
        show_answer(found, (), format_, get, output, found=files)

    varying.help = f"Settings of `memcalc {command}` side by side."
    return varying


for name in OF:
    compare_command.add_command(_varying(name))


@compare_command.command("files", hidden=True, cls=GroupedCommand)
@click.argument("files", nargs=-1, required=True)
@gpu_option
@click.option("--column", "columns", multiple=True, metavar="KEY", help="A key of the JSON to show (repeatable).")
@preset_option
@output_options(OUTPUT_FIELD)
def files_command(
    files: tuple[str, ...], gpu: str | None, columns: tuple[str, ...], presets: tuple[str, ...], format_: str,
    get: tuple[str, ...], output: str | None,
) -> None:  # fmt: skip
    """The scenarios of sizing files, and what launch files start on --gpu, side by side."""
    from memcalc.sizing.comparing import compare_files

    show_answer(compare_files(files, columns=columns, presets=presets, gpu=gpu), (), format_, get, output)


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
