"""How close memcalc is to PyTorch's own count: `python benchmarks/accuracy.py`.

Every row of tests/reference/train_memory.json is one training step traced with PyTorch 2.13 under fake tensors (MemTracker,
FSDPMemTracker; transformers 5.18): the bytes allocated after the forward, at the peak of forward and backward, and at the peak
of the optimizer's step. The trace was made on a build of PyTorch that composes silu's backward from elementary operations;
where the peak lies there, the row's `kernel` is what it is with one kernel, as a GPU has. Printed are median, 90th percentile
and largest absolute error by kind of row; the exit code is 1 when a bound is exceeded.
"""

import copy
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training

ROWS = Path(__file__).parents[1] / "tests" / "reference" / "train_memory.json"
MEASURES = ("after_forward", "peak_forward_backward", "peak_optimizer_step")
BOUNDS = {"after_forward": 0.001, "peak_forward_backward": 0.005, "peak_optimizer_step": 0.005}  # largest error of any row
IMPLEMENTATIONS = {"AdamW-foreach": "foreach", "AdamW-forloop": "for-loop"}


def rows() -> list[dict[str, Any]]:
    """The traced rows, in the order of the file."""
    found: list[dict[str, Any]] = json.loads(ROWS.read_text(encoding="utf-8"))
    return found


def setting(row: dict[str, Any]) -> Training:
    """The row's settings in memcalc's words."""
    fsdp = row["mode"].startswith("fsdp2")
    parallelism = Parallelism()
    if fsdp:
        strategy = "full" if row["reshard_after_forward"] else "grad-op"
        parallelism = Parallelism(gpus=row["world_size"], fsdp=strategy)
    precision = {"amp": "bf16-amp"}.get(row["mode"], row["mode"])
    if fsdp:
        precision = "bf16" if "bf16 params" in row["mode"] else "bf16-mixed"
    return Training(
        parallelism=parallelism,
        precision=precision,
        optimizer="sgd" if row["optimizer"] == "SGD" else "adamw",
        optimizer_impl=IMPLEMENTATIONS.get(row["optimizer"], "fused"),
        micro_batch=row["batch"],
        seq_len=row["seq"],
        grad_accum=row.get("grad_accum", 1),
        recompute="full" if row["checkpointing"] == "full" else "none",
        attention="eager" if row["attn"] == "eager" else "sdpa",
        method="lora" if "lora_r" in row else "full",
        lora_rank=row.get("lora_r", 16),
        keep_output=row.get("keep_output_alive", False),
    )


def config(row: dict[str, Any]) -> dict[str, Any]:
    """The row's config.json at the depth that was traced."""
    values: dict[str, Any] = copy.deepcopy(row["config"])
    for key in ("num_hidden_layers", "n_layer"):
        if key in values:
            values[key] = row["num_layers"]
    if "layer_types" in values:
        values["layer_types"] = values["layer_types"][: row["num_layers"]]
    return values


def kind(row: dict[str, Any]) -> str:
    """The group a row is reported under."""
    if row.get("keep_output_alive"):
        return "model output kept alive"
    if row["mode"].startswith("fsdp2"):
        return "FSDP2"
    if "lora_r" in row:
        return "LoRA"
    return "mixture of experts" if row["config"]["model_type"] in ("mixtral", "qwen3_moe") else f"dense {row['mode']}"


def traced(row: dict[str, Any]) -> dict[str, int]:
    """The row's bytes at each moment."""
    return row["traced"] | row.get("kernel", {})


def errors(row: dict[str, Any]) -> dict[str, float]:
    """Relative error of each measure."""
    found = estimate(read_config(config(row)), setting(row))
    return {name: getattr(found, name) / traced(row)[name] - 1 for name in MEASURES}


def main() -> None:
    by_kind: dict[str, list[dict[str, float]]] = defaultdict(list)
    for row in rows():
        by_kind[kind(row)].append(errors(row))
    print(f"{'rows':<26}{'n':>5}  " + "".join(f"{name:>32}" for name in MEASURES))
    print(f"{'':<33}" + f"{'median      p90      max':>32}" * len(MEASURES))
    for name, found in sorted(by_kind.items()):
        cells = ""
        for measure in MEASURES:
            values = sorted(abs(error[measure]) for error in found)
            figures = (statistics.median(values), values[int(0.9 * (len(values) - 1))], values[-1])
            cells += "".join(f"{100 * value:>9.4f}%" for value in figures).rjust(32)
        print(f"{name:<26}{len(found):>5}  {cells}")
    held = [error for found in by_kind.values() for error in found]
    worst = {measure: max(abs(error[measure]) for error in held) for measure in MEASURES}
    sys.exit(any(worst[measure] > bound for measure, bound in BOUNDS.items()))


if __name__ == "__main__":
    main()
