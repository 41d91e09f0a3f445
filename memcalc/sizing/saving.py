"""`memcalc verify --save DIR`: a log's numbers as a row of one's own measurements, DIR/measured."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memcalc.errors import InputError
from memcalc.estimates.verifying import LogVerification
from memcalc.readers.catalogue import find_preset
from memcalc.report.measured_row import row_text
from memcalc.report.output import write_row
from memcalc.specs.measured import KINDS
from memcalc.specs.served import QUANTITIES

if TYPE_CHECKING:
    from memcalc.readers.models import Model
    from memcalc.sizing.serving import SizedServing
    from memcalc.sizing.training import SizedTraining
    from memcalc.specs.hardware import Accelerator

MIXED = "the log adds up caches of windows and states, which are counted apart"
TRAINED = {"peak": "allocated", "reserved": "reserved", "device": "device"}  # of a log → KINDS


def save_served(found: LogVerification, sized: "SizedServing", model: str, presets: Sequence[str], folder: str) -> str:
    """Writes the row of a server's log. Returns its path."""
    measured = {row.quantity: _number(row.measured) for row in found.rows if row.quantity in QUANTITIES and row.measured > 0}
    unpredicted = {}
    if "kv_cache" in measured and (sized.state or any("window" in e.name for e in sized.lines if e.component == "kv_cache")):
        del measured["kv_cache"]
        unpredicted["kv_cache"] = MIXED
    row = _shared(found, sized.model, model, sized.gpu, presets) | {
        "role": "measurement",
        "grade": "B",
        "assumptions": _assumed(found),
    }
    pool = next((row.measured for row in found.rows if row.quantity == "cache" and row.measured > 0), None)
    if pool and sized.run.engine_row.pooled:
        row["cache"] = int(pool)
    serving = sized.run.model_dump(exclude_unset=True, exclude_none=True)
    return _write(found, "served", row | {"measured": measured, "unpredicted": unpredicted, "serving": serving}, folder)


def save_trained(found: LogVerification, sized: "SizedTraining", model: str, presets: Sequence[str], folder: str) -> str:
    """Writes the row of a training log. Returns its path."""
    values = {TRAINED[row.quantity]: int(row.measured) for row in found.rows if row.quantity in TRAINED and row.measured > 0}
    if not values:
        raise InputError("nothing of it is a value that a row of measurements has", place=found.file)
    kind = next(name for name in KINDS if name in values)
    row = _shared(found, sized.model, model, sized.gpu, presets) | {
        "role": "measurement",
        "grade": "B",
        "assumptions": _assumed(found),
    }
    row |= {"kind": kind, "value": values.pop(kind)}
    run = sized.run.model_dump(exclude_unset=True, exclude_none=True)
    return _write(found, "measured", row | {"also": values, "run": run}, folder)


def _shared(
    found: LogVerification, model: "Model", named: str, gpu: "Accelerator | None", presets: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    try:
        if model.origin != "preset":
            raise InputError("is no preset")
        known = os.path.basename(find_preset("models", model.name, presets)).removesuffix(".toml")
    except InputError:
        raise InputError(f"--save names models by preset, and {named!r:.60} is none: put its config.json into a preset "
                         "of your own (models/NAME.toml, --presets)") from None  # fmt: skip
    out: dict[str, Any] = {"id": _id(found), "model": known, "named": named}
    if gpu:
        out |= {"gpu": gpu.id} if gpu.id else {"gpu_named": gpu.name, "usable": gpu.allocatable}
    return out


def _id(found: LogVerification) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", os.path.basename(found.file).rsplit(".", 1)[0].lower()).strip("-")[:60]
    return f"{re.sub(r'[^a-z0-9]+', '-', found.program)}-{stem or 'log'}"


def _assumed(found: LogVerification) -> list[str]:
    """What the log did not say."""
    return [f"{each.name} {each.value}, as it was given" for each in found.settings if each.source == "--set"]


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _write(found: LogVerification, kind: str, row: Mapping[str, Any], folder: str) -> str:
    path = os.path.join(folder, "measured", f"{row['id']}.toml")
    source = {"citation": f"one's own log, {os.path.basename(found.file)}", "framework": found.program}
    write_row(row_text(source, kind, row), path, f"--save {folder}")
    return path
