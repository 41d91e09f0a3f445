"""Published measurements: presets/measured, one file a source, each row with its citation."""

import os
from collections.abc import Iterator
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.caches import cached
from memcalc.errors import InputError
from memcalc.frozen import NamedTuple
from memcalc.readers.catalogue import accelerator, read_toml, shipped_folder
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_model_preset
from memcalc.specs.measured import Measured
from memcalc.specs.served import Served
from memcalc.specs.spec import validated

TABLES = ("measured", "served")  # rows of training, rows of serving


class Case(NamedTuple):
    """A measurement with the architecture it names."""

    measured: Measured
    architecture: Architecture


@cached(16)
def cases(folders: tuple[str, ...] = ()) -> tuple[Case, ...]:
    """Every published measurement that comes with memcalc, or in place of them those of one's own folders, file by file."""
    return tuple(case for path in measured_files(folders) for case in read_measured(path, folders))


def measured_files(folders: tuple[str, ...] = ()) -> list[str]:
    """The files of rows. Raises InputError where a folder of one's own has none."""
    found = []
    for folder in [os.path.join(own, "measured") for own in folders] or [shipped_folder("measured")]:
        try:
            names = os.listdir(folder)
        except OSError as error:
            raise InputError(error.strerror or str(error), place=folder) from None
        found += sorted(os.path.join(folder, name) for name in names if name.endswith(".toml"))
    return found


def read_measured(path: str, folders: tuple[str, ...] = ()) -> Iterator[Case]:
    """The rows of one file: [[source]] tables, each with the [[source.measured]] rows that share its citation."""
    for source in read_toml(path).get("source", []):
        shared = {key: value for key, value in source.items() if key not in TABLES}
        for row in source.get("measured", []):
            yield _case(shared | row, path, folders)


class ServedCase(NamedTuple):
    """A measurement of serving with the architecture it names, if memcalc knows it."""

    served: Served
    architecture: Architecture | None


@cached(16)
def served_cases(folders: tuple[str, ...] = ()) -> tuple[ServedCase, ...]:
    """The same of serving."""
    return tuple(case for path in measured_files(folders) for case in read_served(path, folders))


def read_served(path: str, folders: tuple[str, ...] = ()) -> Iterator[ServedCase]:
    """The rows of one file: [[source]] tables, each with the [[source.served]] rows that share its citation."""
    for source in read_toml(path).get("source", []):
        shared = {key: value for key, value in source.items() if key not in TABLES}
        for row in source.get("served", []):
            place = f"{os.path.basename(path)}: {row.get('id', 'a row without id')}"
            served = validated(Served, shared | row, place)
            if served.gpu:
                gpu = accelerator(served.gpu, folders)
                served = served.replace(usable=served.usable or gpu.allocatable, generation=gpu.architecture)
            known = served.model or served.architecture is not None
            yield ServedCase(served, _architecture(served.model, served.architecture, place, folders) if known else None)


def _architecture(
    model: str, values: dict[str, Any] | None, place: str, folders: tuple[str, ...] = ()
) -> Architecture:  # fmt: skip
    return _preset(model, folders) if model else read_config(values or {}, place)


def _case(values: dict[str, Any], path: str, folders: tuple[str, ...] = ()) -> Case:
    place = f"{os.path.basename(path)}: {values.get('id', 'a row without id')}"
    measured = validated(Measured, values, place)
    if measured.gpu:
        gpu = accelerator(measured.gpu, folders)
        measured = measured.replace(usable=measured.usable or gpu.limit, generation=gpu.architecture)
    return Case(measured, _architecture(measured.model, measured.architecture, place, folders))


@cached(16)
def _preset(name: str, folders: tuple[str, ...] = ()) -> Architecture:
    architecture = read_model_preset(name, folders).architecture
    assert architecture is not None  # a preset always holds one
    return architecture
