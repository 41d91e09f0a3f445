"""Sizing files against another file, or against themselves at another commit."""

import os
from collections.abc import Sequence

from memcalc.errors import InputError, Several
from memcalc.estimates.baseline import ScenarioChange, beside
from memcalc.estimates.checking import Outcome
from memcalc.readers.catalogue import MAX_PRESET_BYTES
from memcalc.readers.git_text import opened_at
from memcalc.readers.sizing import Named, is_sizing, read_sizing
from memcalc.sizing.checking import judged, read_scenarios
from memcalc.sizing.subjects import Subjects


def changes_since(
    baseline: str,
    files: Sequence[str],
    outcomes: Sequence[Outcome],
    presets: Sequence[str] = (),
    wanted: str = "",
    gpu: str | None = None,
    gpus: int | None = None,
) -> list[ScenarioChange]:
    """What differs from `baseline`: a file, whose scenarios are matched by name, else a commit at which `files` are read,
    and what launch files name with them; models that stand beside a file are those of today.

    Raises Several for what is wrong there."""
    other = os.path.exists(baseline)
    subjects = Subjects(presets)
    named = (
        read_scenarios(baseline, wanted, subjects, gpu, gpus) if other else _at(baseline, files, wanted, subjects, gpu, gpus)
    )
    before, problems = judged(named, subjects, remedies=0)
    if problems:
        raise Several(problems)
    return beside(outcomes, before, by_file=not other)


def _at(ref: str, files: Sequence[str], wanted: str, subjects: Subjects, gpu: str | None, gpus: int | None) -> list[Named]:
    """The scenarios of files as they were; none of a file that was not there."""
    out: list[Named] = []
    opened = opened_at(ref, MAX_PRESET_BYTES)
    for file in files:
        if file == "-":
            raise InputError("standard input is in no commit; give a FILE to compare with", place="--baseline")
        if not is_sizing(file):
            from memcalc.sizing.checking_launch import launch_scenarios

            out += launch_scenarios(file, subjects, gpu, gpus, wanted, opened)
        elif (text := opened(file)) is not None:
            out += read_sizing(file, text, wanted)
    return out
