"""`memcalc runs`."""

import click

from memcalc.cli.options import GroupedCommand, output_options, preset_option, show


@click.command("runs", cls=GroupedCommand)
@click.argument("name", required=False)
@click.option("--filter", "text", metavar="TEXT", help="Only rows that contain TEXT.  [default: all]")
@preset_option
@output_options("runs.0.computed.pf_days")
def runs_command(
    name: str | None, text: str | None, presets: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None
) -> None:
    """Published training runs and what memcalc computes for them; with a NAME, one in full."""
    from memcalc.errors import InputError
    from memcalc.estimates.compute.runs import recompute
    from memcalc.readers.catalogue import accelerator
    from memcalc.readers.runs import training_run, training_runs
    from memcalc.report.runs import report, run_report

    if name is not None and text is not None:
        raise InputError("chooses among all runs; leave out the NAME or the filter", place="--filter")
    if name is not None:
        run = training_run(name, presets)
        show(run_report(recompute(run, accelerator(run.gpu, presets) if run.gpu else None)), format_, get, output)
        return
    known = {}
    found = []
    for run in training_runs(presets):
        if run.gpu and run.gpu not in known:
            known[run.gpu] = accelerator(run.gpu, presets)
        found.append(recompute(run, known.get(run.gpu)))
    show(report(found, text), format_, get, output)
