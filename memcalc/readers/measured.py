"""Published measurements: presets/measured, one file a source, each row with its citation."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.readers.catalogue import accelerator, read_toml, shipped_folder
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_model_preset
from memcalc.specs.measured import Measured
from memcalc.specs.validation import validated


class Case(NamedTuple):
    """A measurement with the architecture it names."""

    measured: Measured
    architecture: Architecture


@cache
def cases() -> tuple[Case, ...]:
    """Every published measurement that comes with memcalc, file by file."""
    return tuple(case for path in measured_files() for case in read_measured(path))


def measured_files() -> list[str]:
    folder = shipped_folder("measured")
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".toml"))


def read_measured(path: str) -> Iterator[Case]:
    """The rows of one file: [[source]] tables, each with the [[source.measured]] rows that share its citation."""
    for source in read_toml(path).get("source", []):
        shared = {key: value for key, value in source.items() if key != "measured"}
        for row in source.get("measured", []):
            yield _case(shared | row, path)


def _case(values: dict[str, Any], path: str) -> Case:
    place = f"{os.path.basename(path)}: {values.get('id', 'a row without id')}"
    measured = validated(Measured, values, place)
    if measured.gpu:
        gpu = accelerator(measured.gpu)
        measured = replace(measured, usable=measured.usable or gpu.usable, generation=gpu.architecture)
    return Case(measured, _preset(measured.model) if measured.model else read_config(measured.architecture or {}, place))


@cache
def _preset(name: str) -> Architecture:
    architecture = read_model_preset(name).architecture
    assert architecture is not None  # a preset always holds one
    return architecture
