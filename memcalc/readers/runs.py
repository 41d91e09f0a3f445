"""Published training runs: presets/runs, one small TOML file each."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from memcalc.errors import InputError
from memcalc.readers.catalogue import find_preset, preset_names, read_toml
from memcalc.specs.runs import TrainingRun
from memcalc.specs.spec import validated


def training_run(name: str, folders: Sequence[str] = ()) -> TrainingRun:
    """The run of that name or alias.

    >>> training_run("gpt-3").tokens
    300000000000
    """
    path = find_preset("runs", name, folders)
    values: dict[str, Any] = read_toml(path)
    if "id" in values:
        raise InputError("id: unknown key; the file's name is the id", place=path)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    values["id"] = os.path.basename(path).removesuffix(".toml")
    return validated(TrainingRun, values, path)


def training_runs(folders: Sequence[str] = ()) -> Iterator[TrainingRun]:
    """Every run there is, by name."""
    for name in preset_names("runs", folders):
        yield training_run(name, folders)
