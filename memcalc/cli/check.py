"""`memcalc check FILE…`."""

import click

from memcalc.cli.options import GroupedCommand, output_options, preset_option, show
from memcalc.errors import Several

DEFAULT_FILE = "memcalc.toml"
REVIEW = ("github", "sarif", "junit")  # formats that show what is wrong with a file, too


@click.command("check", cls=GroupedCommand)
@click.argument("files", nargs=-1)
@click.option("--filter", "wanted", metavar="TEXT", default="", help="Only scenarios whose name holds TEXT.  [default: all]")
@click.option(
    "--baseline",
    metavar="FILE|GIT-REF",
    help="Show the difference to another file, or to the files at a commit.  [default: none]",
)
@click.option(
    "--fail-on",
    type=click.Choice(("exceeded", "worse")),
    default="exceeded",
    show_default=True,
    help="What exit code 1 means: a limit is exceeded, or a scenario is worse than the baseline.",
)
@click.option("--gpu", metavar="NAME", help="Accelerator of launch files, which name none.  [default: none]")
@click.option(
    "--gpus",
    type=click.IntRange(1, 10_000_000),
    metavar="N",
    help="GPUs of a run whose launch file does not say on how many.  [default: none]",
)
@preset_option
@output_options("ok", *REVIEW)
@click.pass_context
def check_command(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    wanted: str,
    baseline: str | None,
    fail_on: str,
    gpu: str | None,
    gpus: int | None,
    presets: tuple[str, ...],
    format_: str,
    get: tuple[str, ...],
    output: str | None,
) -> None:
    """Check sizing files, or launch files, against their limits.

    Exit code 0 when all hold, 1 when one is exceeded, 2 when a file is wrong.

    A launch file (as of `memcalc import`) has no limits of its own: it must fit, tight at the worst, on --gpu. Without
    FILE, memcalc.toml of the current folder. `memcalc schema` prints what such a file may hold.
    """
    from memcalc.report.checking import report
    from memcalc.sizing.checking import examined

    if fail_on == "worse" and baseline is None:
        raise click.UsageError("--fail-on worse: worse than what? add --baseline FILE or a commit of git")
    asked = files or (DEFAULT_FILE,)
    outcomes, problems = examined(*asked, presets=presets, wanted=wanted, gpu=gpu, gpus=gpus)
    shown, failed = report(outcomes, problems), not all(outcome.holds for outcome in outcomes)
    if baseline is not None and not problems:
        from memcalc.report.baseline import with_baseline
        from memcalc.sizing.baseline import changes_since

        changes = changes_since(baseline, asked, outcomes, presets, wanted, gpu, gpus)
        shown = with_baseline(shown, baseline, changes)
        failed = any(change.worse for change in changes) if fail_on == "worse" else failed
    if not problems or (format_ in REVIEW and not get):
        show(shown, format_, get, output)
    if problems:
        raise Several(problems)
    ctx.exit(int(failed))
