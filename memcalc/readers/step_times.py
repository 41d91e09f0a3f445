"""Published training speeds with their settings: presets/measured/step-times.json."""

import json
import os
from collections.abc import Iterator
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.predicting import predicting
from memcalc.frozen import NamedTuple
from memcalc.readers.catalogue import accelerator, shipped_folder
from memcalc.readers.files import read_text
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_model_preset
from memcalc.specs.hardware import Accelerator
from memcalc.specs.pipeline import predicting_of_layout

MOST_BYTES = 2**22


class PublishedSpeed(NamedTuple):
    """One row: what was run, on what, and how fast it was. `fitted`: a factor of the law was set from its group."""

    id: str
    source: str
    group: str  # rows of one source, model and accelerator
    kind: str
    grade: str
    architecture: Architecture
    gpu: Accelerator
    settings: dict[str, Any]
    tokens_per_second_per_gpu: float
    network: float | None  # B/s between nodes and GPU, where the source says
    without_optimizer: bool  # its step is not in the time
    fitted: bool


def published_speeds() -> Iterator[PublishedSpeed]:
    """All rows, in the order of the file."""
    path = os.path.join(shipped_folder("measured"), "step-times.json")
    found = json.loads(read_text(path, MOST_BYTES))
    models: dict[Any, Architecture] = {}
    for row in found["rows"]:
        model = row["model"]
        if model not in models:
            known = (
                read_model_preset(model).architecture if isinstance(model, str) else read_config(found["models"][model], path)
            )
            assert known is not None  # a preset always holds one
            models[model] = known
        run, architecture = row["run"], models[model]
        layout = run.get("pipeline_layout")
        if count := run.get("mtp_layers", 0) or (predicting_of_layout(layout) if layout else 0):
            architecture = predicting(architecture, count)
        yield PublishedSpeed(
            row["id"], found["sources"][row["source"]], row["group"], row["kind"], row["grade"], architecture,
            accelerator(row["gpu"]), {k: tuple(v) if isinstance(v, list) else v for k, v in run.items()},
            row["tokens_per_second_per_gpu"], row.get("network"), row.get("without_optimizer", False),
            row.get("fitted", False),
        )  # fmt: skip
