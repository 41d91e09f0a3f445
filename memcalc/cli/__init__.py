"""The command line. One table names the commands; a command's own module is imported only when it runs."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

import click

from memcalc import __version__
from memcalc.errors import MemcalcError, Problem, Several, Unwritable, printable
from memcalc.frozen import NamedTuple

FAULT = 70  # EX_SOFTWARE of sysexits.h: an error of ours
LONGEST_LINE = 1900  # characters of a message

DOCUMENTATION = "docs/ of the source"


class Command(NamedTuple):
    """A row of the table of commands: its module, what it answers, under which heading of the help it stands."""

    module: str
    summary: str
    subject: str = ""  # "": hidden, another name of a command


SIZE, PLAN, AUTOMATE, LOOK_UP, TRUST = "Size", "Plan", "Automate", "Look up", "Trust"
COMMANDS: dict[str, Command] = {
    "train": Command("train", "Memory per GPU of a training step.", SIZE),
    "infer": Command("infer", "Memory per GPU of serving, and how many requests fit.", SIZE),
    "bytes": Command("bytes_per_parameter", "Bytes per parameter, precision × optimizer (the rule of thumb).", SIZE),
    "plan": Command("plan", "Which layout to run: all that fit, the fastest or cheapest first.", PLAN),
    "budget": Command("budget", "FLOPs, petaFLOP/s-days, GPU-hours, days, cost and energy of a training run.", PLAN),
    "runs": Command("runs", "Published training runs and what memcalc computes for them; with a NAME, one.", PLAN),
    "chinchilla": Command("chinchilla", "Compute-optimal parameters and tokens, under every published law.", PLAN),
    "optimal": Command("chinchilla", "The same as chinchilla."),
    "import": Command("importing", "Launch files of other programs as a sizing file; every key accounted for.", AUTOMATE),
    "compare": Command("compare", "Settings side by side: --vary KEY=A,B, or sizing files.", PLAN),
    "check": Command("check", "CI gate: sizing files with limits; exit 0 or 1.", AUTOMATE),
    "verify": Command("verify", "An engine's log beside the prediction, line by line.", TRUST),
    "validate": Command("validate", "Predictions against published measurements, with the error of each.", TRUST),
    "trace": Command("trace", "memcalc's figures beside PyTorch's own for one step (needs memcalc[torch]).", TRUST),
    "inspect": Command(
        "inspect", "What a config.json, safetensors or GGUF file holds: parameters by role, layers, formats.", LOOK_UP
    ),
    "models": Command("listings", "Model presets.", LOOK_UP),
    "gpus": Command("listings", "Accelerators.", LOOK_UP),
    "formats": Command("listings", "Number formats.", LOOK_UP),
    "optimizers": Command("listings", "Optimizers and the states they keep.", LOOK_UP),
    "engines": Command("listings", "Training and serving engines and their defaults.", LOOK_UP),
    "schema": Command("schema", "JSON Schema of the sizing file and of the JSON output.", AUTOMATE),
    "completion": Command("completion", "The script with which bash, zsh or fish completes commands and values.", AUTOMATE),
    "help": Command("help", "What a command does, and its options.", LOOK_UP),
}


@contextmanager
def _writing() -> Iterator[None]:
    """Help is written by click: where stdout is full that is no fault of ours, where its reader has gone no fault at all."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:  # of a file that was to be opened
            raise
        silence("stdout")
        if isinstance(error, BrokenPipeError):
            raise click.exceptions.Exit(0) from None
        raise Unwritable(error.strerror or error) from None


class LazyGroup(click.Group):
    """Help and completion of the command names come from the table, without importing any command."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _writing():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _writing():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"memcalc.cli.{COMMANDS[name].module}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from memcalc.errors import nearest

            raise click.UsageError(
                f"no command {args[0]!r:.60}{nearest(args[0], COMMANDS)} (commands: {', '.join(COMMANDS)})", ctx
            )
        found, command, rest = super().resolve_command(ctx, args)
        if found is None or command is None:
            return found, command, rest
        if _all_known(command, rest):
            return found, command, rest
        from memcalc.cli.aliases import translated

        return found, command, translated(found, command, rest)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, COMMANDS))
        for subject in (SIZE, PLAN, AUTOMATE, LOOK_UP, TRUST):
            with formatter.section(subject + LISTED * (subject == LOOK_UP)):
                rows = [(name.ljust(widest), entry.summary) for name, entry in COMMANDS.items() if entry.subject == subject]
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Where to go on"):
            formatter.write_dl(ONWARD)


def _all_known(command: click.Command, words: Sequence[str]) -> bool:
    """Whether all options among the words are the command's own, and it takes what stands between them."""
    from memcalc.cli.options import GroupedCommand

    if not isinstance(command, GroupedCommand):  # help, which has no options
        return not any(word.startswith("-") for word in words)
    known = command.words()
    takes = any(isinstance(param, click.Argument) for param in command.declared)
    return takes and all(word.partition("=")[0] in known for word in words if word.startswith("-"))


LISTED = " (a list; with a NAME, one in full)"
ONWARD = [
    ("memcalc COMMAND --help", "all options of a command, also as `memcalc help COMMAND`"),
    ('eval "$(memcalc completion bash)"', "completion in this shell; zsh and fish are there too"),
    (DOCUMENTATION, "tutorial, how-to, reference, explanation (README.md says what is where)"),
]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="memcalc")
def cli() -> None:
    """GPU memory, compute budgets and scaling laws of large language models.

    \b
    memcalc train llama-3.1-8b --gpus 8 --zero 3 --gpu h100
    memcalc infer llama-3.1-8b --context 32k --batch 8 --gpu h100
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line: errors become one line on stderr and exit code 2 (70: one of ours), never a traceback."""
    if args is None:  # a process of its own, not a call from Python
        _start_quickly()
    try:
        code = cli.main(args=args, prog_name="memcalc", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        _help(error)
    except Several as error:
        fail_with(error.problems)
    except (MemcalcError, click.ClickException) as error:
        fail(_message(error))
    except click.Abort:
        sys.exit(130)
    except Exception as error:  # whatever nobody foresaw: a gate must not read it as "limit exceeded"
        if isinstance(error.__cause__, KeyboardInterrupt):  # while a class was made, which Python before 3.12 wraps
            sys.exit(130)
        fail(_fault(error), FAULT)
    code = code if isinstance(code, int) else 0
    if args is None:
        _end_quickly(code)
    sys.exit(code)


def _start_quickly() -> None:
    """Leave out what Pydantic imports and a process that answers one question has no use for.

    Plug-ins: before its first model it reads the metadata of every installed package to find them
    (pydantic/plugin/_loader.py), which takes longer than any estimate. And `secrets`, by which it compares passwords
    (pydantic/types.py): with that come random numbers and OpenSSL's hashes; it is imported when something asks for it.
    """
    loader = ModuleType("pydantic.plugin._loader")
    vars(loader)["get_plugins"] = tuple
    sys.modules.setdefault(loader.__name__, loader)
    sys.modules.setdefault("secrets", _Later("secrets"))


class _Later(ModuleType):
    """A module in whose place the module itself comes once something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def _end_quickly(code: int) -> None:
    """End the process without taking apart what it holds, a twentieth of its time; whoever watches it sees it end as ever."""
    if sys.gettrace() or sys.getprofile():
        return
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):  # closed, or full: Python's own end says so
        return
    os._exit(code)


def _help(error: click.exceptions.NoArgsIsHelpError) -> NoReturn:
    """memcalc alone is answered with its help, a command without what it needs with what that is; neither is a success."""
    if error.ctx and error.ctx.parent:
        fail(_nothing_given(error.ctx))
    try:
        with _writing():
            click.echo(error.ctx.get_help() if error.ctx else "")
    except Unwritable as unwritable:
        fail(str(unwritable))
    except click.exceptions.Exit:
        pass
    sys.exit(2)


MOST_PROBLEMS = 50  # lines; more are counted


def fail_with(problems: Sequence[Problem]) -> NoReturn:
    """A line for each that is wrong with a file, and the exit code."""
    for problem in problems[: MOST_PROBLEMS - 1]:
        _say(str(problem))
    left = problems[MOST_PROBLEMS - 1 :]
    if left:
        _say(str(left[0]) if len(left) == 1 else f"{len(left)} more")
    sys.exit(2)


def fail(message: str, code: int = 2) -> NoReturn:
    """One line on stderr, where there is one, and the exit code."""
    _say(message)
    sys.exit(code)


def _say(message: str) -> None:
    line = printable(" ".join(message.split()))
    if len(line) > LONGEST_LINE:
        line = f"{line[:LONGEST_LINE]}…"
    try:
        if sys.stderr is not None:
            sys.stderr.write(f"memcalc: {line}\n")
            sys.stderr.flush()
    except UnicodeEncodeError:
        sys.stderr.write(f"memcalc: {line.encode('ascii', 'backslashreplace').decode()}\n")
    except (OSError, ValueError):  # closed, or full: the exit code says it
        silence("stderr")


def silence(stream: str) -> None:
    """What a stream still holds must not fail once more at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), getattr(sys, stream).fileno())
    except (OSError, ValueError, AttributeError):  # no stream, or one without a file
        setattr(sys, stream, None)


def _fault(error: Exception) -> str:
    """What went wrong inside memcalc, and where."""
    where, frame = "", error.__traceback__
    while frame is not None:
        where, frame = f"{frame.tb_frame.f_globals.get('__name__')}, line {frame.tb_lineno}", frame.tb_next
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"a fault of memcalc's own, please report it with the command: {said} ({where})"


def _message(error: MemcalcError | click.ClickException) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    rules = (error, *getattr(error, "others", ()))
    return "; ".join(map(_as_options, rules))


def _nothing_given(ctx: click.Context) -> str:
    """What a command without a word needs, rather than a page of options."""
    instead = any(param.name == "launch" for param in ctx.command.params)  # --from may stand in place of a MODEL
    arguments = (param for param in ctx.command.params if isinstance(param, click.Argument) and (param.required or instead))
    needed = [param.make_metavar(ctx).strip("[]") for param in arguments]
    missing = f"{', '.join(needed)} is missing" if needed else "nothing to go on"
    return (
        f"{missing}; write {ctx.command_path} {' '.join(ctx.command.collect_usage_pieces(ctx))} (`{ctx.command_path} --help`)"
    )


def _as_options(error: Exception) -> str:
    """A broken rule with its fields as the options that set them."""
    fields = getattr(error, "fields", ())
    options = ", ".join(name if name.isupper() else f"--{name.replace('_', '-')}" for name in fields)
    return f"{options}: {getattr(error, 'message', error)}" if options else str(error)
