"""Sizing files against another file, or against themselves at another commit."""

import os
from collections.abc import Sequence

from memcalc.errors import InputError, Several
from memcalc.estimates.baseline import ScenarioChange, beside
from memcalc.estimates.checking import Outcome
from memcalc.readers.catalogue import MAX_PRESET_BYTES
from memcalc.readers.files import decoded
from memcalc.readers.git_text import text_at
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
    """What differs from `baseline`: a file, whose scenarios are matched by name, else a commit at which `files` are read;
    models that stand beside them are those of today. Raises Several for what is wrong there."""
    other = os.path.exists(baseline)
    subjects = Subjects(presets)
    named = read_scenarios(baseline, wanted, subjects, gpu, gpus) if other else _at(baseline, files, wanted)
    before, problems = judged(named, subjects, remedies=0)
    if problems:
        raise Several(problems)
    return beside(outcomes, before, by_file=not other)


def _at(ref: str, files: Sequence[str], wanted: str) -> list[Named]:
    """The scenarios of files as they were; none of a file that was not there."""
    out: list[Named] = []
    for file in files:
        if file == "-":
            raise InputError("standard input is in no commit; give a FILE to compare with", place="--baseline")
        if not is_sizing(file):
            raise InputError(
                f"{file} is a launch file, which names others beside it; give a FILE to compare with", place="--baseline"
            )
        data = text_at(ref, file, MAX_PRESET_BYTES)
        if data is not None:
            out += read_sizing(file, decoded(data, f"{file} at {ref}", MAX_PRESET_BYTES), wanted)
    return out
