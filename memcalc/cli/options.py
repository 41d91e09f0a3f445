"""Options that several commands share, and what every command does with them."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import click

from memcalc.caches import cached_property
from memcalc.cli.amounts import TYPES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])

FIRST_COLUMN = 30  # characters of an option and what it takes, beside which its meaning stands; else it stands below


# Subjects of the help, in this order; others come before the last, in the order in which they are first met.
HARDWARE, OUTPUT = "Hardware", "Output"
SUBJECTS = (HARDWARE, "Model states", "Sharding", "Batch", "Requests", "Activations", "Mixture of experts", "Engine")


class GroupedOption(click.Option):
    """An option that stands under a subject in the help; `choices`: each word that it takes, with its meaning."""

    def __init__(
        self, *names: Any, group: str = "", choices: tuple[tuple[str, str], ...] = (), **attributes: Any
    ) -> None:  # fmt: skip
        super().__init__(*names, **attributes)
        self.group, self.choices = group, choices

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        from memcalc.cli.completing import words

        return words(ctx, self, incomplete) or super().shell_complete(ctx, incomplete)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Without the word that takes a flag back (--no-ddp): every flag has one."""
        taken_back, self.secondary_opts = self.secondary_opts, []
        record = super().get_help_record(ctx)
        self.secondary_opts = taken_back
        return record


# An option of a spec's field, as memcalc.cli.generate wrote it down: name, kind, metavar, meaning, group, choices.
Row = tuple[str, str, str, str, str, tuple[tuple[str, str], ...]]


def _words(row: Row) -> tuple[str, ...]:
    """What says an option: --ddp, and what takes it back."""
    word = row[0].replace("_", "-")
    return (f"--{word}", f"--no-{word}") if row[1] == "flag" else (f"--{word}",)


def _option(row: Row) -> GroupedOption:
    _, kind, metavar, meaning, group, choices = row
    return GroupedOption(
        ["/".join(_words(row))], group=group, choices=choices, help=meaning, type=TYPES[kind], metavar=metavar or None,
        is_flag=kind == "flag", default=None, multiple=kind == "repeated",
    )  # fmt: skip


class ModelArgument(click.Argument):
    """MODEL, which a shell completes to presets and files."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        from memcalc.cli.completing import models

        return models(ctx, self, incomplete)


class GroupedCommand(click.Command):
    """A command whose help lists its options by subject, each word of a choice below its option.

    Options of specs are made when they are said, or all are asked for: a command has a hundred of them, a question a few.
    """

    def __init__(self, *names: Any, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.declared: list[click.Parameter | Row] = vars(self).pop("params")

    @cached_property
    def params(self) -> list[click.Parameter]:  # type: ignore[override]
        return [_option(each) if isinstance(each, tuple) else each for each in self.declared]

    def words(self) -> set[str]:
        """Whatever says an option, but for help."""
        words = (_words(each) if isinstance(each, tuple) else (*each.opts, *each.secondary_opts) for each in self.declared)
        return set(chain.from_iterable(words))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        said = {word.partition("=")[0] for word in args if word.startswith("-")}
        if ctx.resilient_parsing or not said <= self.words():  # completed, refused, or answered with help: that needs all
            return super().parse_args(ctx, args)
        made: list[click.Parameter] = []
        unsaid: dict[str, Any] = {}
        for each in self.declared:
            if not isinstance(each, tuple):
                made.append(each)
            elif said.isdisjoint(_words(each)):
                unsaid[each[0]] = () if each[1] == "repeated" else None
            else:
                made.append(_option(each))
        vars(self)["params"] = made
        try:
            rest = super().parse_args(ctx, args)
        finally:
            del vars(self)["params"]
        ctx.params |= unsaid
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[click.Parameter]] = {subject: [] for subject in SUBJECTS}
        for parameter in self.get_params(ctx):
            if not isinstance(parameter, click.Argument):  # the command's own text says what they are
                groups.setdefault(getattr(parameter, "group", ""), []).append(parameter)
        last = groups.pop("", [])
        grouped = any(groups.values())
        for heading, parameters in (*groups.items(), (OUTPUT if grouped else "Options", last)):
            if parameters:
                with formatter.section(heading):
                    _write_options(parameters, ctx, formatter)


def _write_options(parameters: Sequence[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Each option beside its meaning, and the words that it takes below it, beside theirs."""
    records = [(parameter, record) for parameter in parameters if (record := parameter.get_help_record(ctx))]
    column = min(max(len(record[0]) for _, record in records), FIRST_COLUMN)
    for parameter, (name, meaning) in records:
        _write_pair(name, meaning, column, 0, formatter)
        choices = getattr(parameter, "choices", ())
        widest = max((len(word) for word, _ in choices), default=0)
        for word, what in choices:
            _write_pair(word, what, widest, 4, formatter)


def _write_pair(name: str, meaning: str, column: int, indent: int, formatter: click.HelpFormatter) -> None:
    """Two columns; words such as adamw-8bit are never broken."""
    import textwrap

    start = formatter.current_indent + indent
    text = meaning.replace("[default: ", "[default:\0")  # kept together
    lines = textwrap.wrap(text, max(formatter.width - start - column - 2, 20), break_on_hyphens=False) or [""]
    if len(name) > column:
        formatter.write(f"{'':{start}}{name}\n")
        name = ""
    for line in lines:
        formatter.write(f"{'':{start}}{name:{column}}  {line}".replace("\0", " ").rstrip() + "\n")
        name = ""


def spec_options(*specs: str, without: Sequence[str] = ()) -> Callable[[F], F]:
    """The options of a spec's fields, for a GroupedCommand; `without`: what a command has in its own way."""
    from memcalc.cli.spec_options import ROWS

    options = [row for spec in specs for row in ROWS[spec] if row[0] not in without]

    def decorate(function: F) -> F:
        vars(function).setdefault("__click_params__", []).extend(reversed(options))  # as click.option does
        return function

    return decorate


def choices_of(spec: str, field: str) -> tuple[tuple[str, str], ...]:
    """The words that a field of a spec takes, with their meanings."""
    from memcalc.cli.spec_options import ROWS

    return next(choices for name, *_, choices in ROWS[spec] if name == field)


def details_option(function: F) -> F:
    """--details."""
    return click.option("--details", is_flag=True, help="Print every table and all assumptions.  [default: one screen]")(
        function
    )


def output_options(field: str, *more: str) -> Callable[[F], F]:
    """--format, --get, --output: the same for every command; `field` is one that its document has, `more` further formats."""
    from memcalc.report.report import FORMATS

    def decorate(function: F) -> F:
        for option in (
            click.option("--output", metavar="FILE", help="Write to FILE instead of stdout."),
            click.option(
                "--get", multiple=True, metavar="PATH", help=f"Print one field of the JSON (repeatable), bare: {field}"
            ),
            click.option(
                "--format", "format_", type=click.Choice((*FORMATS, *more)), default="table", show_default=True,
                help="How to print: a table for people, or one of the others for programs, sheets and pages.",
            ),
        ):  # fmt: skip
            function = option(function)
        return function

    return decorate


def fit_options(function: F) -> F:
    """--require-fit and --require-sure-fit."""
    for option in (
        click.option("--require-sure-fit", is_flag=True, help="Exit with 1 unless it surely fits, with all of its range."),
        click.option("--require-fit", is_flag=True, help="Exit with 1 when it does not fit."),
    ):
        function = option(function)
    return function


def fit_code(answer: Any, require_fit: bool, require_sure_fit: bool) -> int:
    """The exit code of a verdict; a guessed model passes no gate. Refuses the question where there is nothing to fit into."""
    verdict = answer.verdict
    for name, asked in (("--require-fit", require_fit), ("--require-sure-fit", require_sure_fit)):
        if asked and verdict is None:
            raise click.UsageError(f"{name}: needs a --gpu to fit into")
        if asked and answer.guessed:
            click.echo(f"memcalc: {name}: not answered for a guess: {answer.guessed}", err=True)
            return 1
    return int((require_fit and verdict == "no") or (require_sure_fit and verdict != "fits"))


def explain_option(function: F) -> F:
    """--explain PATH, repeatable."""
    return click.option(
        "--explain",
        multiple=True,
        metavar="PATH",
        help="How a number came about: peak, verdict or a key of the JSON (repeatable).",
    )(function)


def preset_option(function: F) -> F:
    """--presets DIR, repeatable."""
    return click.option(
        "--presets", multiple=True, metavar="DIR", cls=GroupedOption,
        help="Folder with your own models/ and gpus/ (also $MEMCALC_PRESETS).  [default: none]",
    )(function)  # fmt: skip


def gpu_option(function: F) -> F:
    """--gpu NAME, once: two are two questions."""

    def only(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> str | None:
        if len({name.lower() for name in value}) > 1:
            raise click.BadParameter(f"{' and '.join(value)}: one at a time; ask once for each", ctx, param)
        return value[0] if value else None

    return click.option(
        "--gpu", metavar="NAME", cls=GroupedOption, group=HARDWARE, multiple=True, callback=only,
        help="Accelerator, as in `memcalc gpus`: h100, 4090, 'RTX 3060 12GB'.  [default: none, nothing is judged]",
    )(function)  # fmt: skip


def from_option(function: F) -> F:
    """--from FILE, repeatable."""

    def files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]

    return click.option(
        "--from", "launch", multiple=True, shell_complete=files, metavar="FILE|'COMMAND LINE'", cls=GroupedOption,
        help="Settings from launch files of other programs (repeatable); options win.  [default: none]",
    )(function)  # fmt: skip


def from_files(
    command: str, launch: tuple[str, ...], model: str | None, gpu: str | None, settings: dict[str, Any]
) -> tuple[Any, Any, str | None, dict[str, Any]]:
    """What launch files say under what was typed: where it was read (None without files), MODEL, GPU and settings."""
    if not launch:
        check_model(command, model)
        return None, model, gpu, settings
    from memcalc.sizing.importing import asked_from

    asked = asked_from(command, launch, model, gpu, settings)
    return asked.found, asked.model, asked.gpu, asked.settings


def check_model(command: str, model: str | None) -> None:
    """Refuse a question without MODEL, where no launch file names one."""
    if model is None:
        raise click.UsageError(
            f"MODEL is missing; write memcalc {command} MODEL [OPTIONS], or --from FILE (`memcalc {command} --help`)"
        )


def show_answer(
    answer: Any, explain: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None, *, whole: bool = False,
    found: Any = None,
) -> None:  # fmt: skip
    """Render an answer's report, or the trees behind some of its numbers; `found`: the launch files that it began with."""
    report = _explained(answer, explain)
    if found is not None:
        from memcalc.sizing.import_report import with_account

        report = with_account(report, found)
    show(report, format_, get, output, whole=whole)


def _explained(answer: Any, explain: tuple[str, ...]) -> Any:
    """The report, with the trees that were asked for."""
    if not explain:
        return answer.report()
    from memcalc.sizing.explaining.explain import explained

    return explained(answer, explain)


def show(report: Any, format_: str, get: tuple[str, ...], output: str | None, *, whole: bool = False) -> None:
    """Render a report, `whole` with all that hides behind a flag, and send it where it belongs."""
    import sys

    from memcalc.errors import printable
    from memcalc.report.output import render, write

    terminal = output is None and sys.stdout is not None and sys.stdout.isatty()
    people = format_ == "table" and not get
    text = render(report, format_, get=get, terminal=terminal, unicode=output is not None, whole=whole)
    for warning in report.warnings if get else ():  # once there is an answer: a refusal is one line
        click.echo(f"memcalc: warning: {printable(warning)}", err=True)
    write(text, output, people=people)
