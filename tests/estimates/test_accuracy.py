"""Every traced training step of tests/reference/train_memory.json (PyTorch 2.13, transformers 5.18), within its bound."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accuracy.py"
SPEC = importlib.util.spec_from_file_location("accuracy", SCRIPT)
assert SPEC
assert SPEC.loader
accuracy = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(accuracy)

ROWS = list(enumerate(accuracy.rows()))


@pytest.mark.parametrize("row", [row for _, row in ROWS], ids=[f"{i}-{row['model']}-{row['mode'][:5]}" for i, row in ROWS])
def test_row(row):
    for measure, error in accuracy.errors(row).items():
        bound = accuracy.BOUNDS[measure]
        traced = accuracy.traced(row)[measure]
        assert abs(error) <= bound, f"{measure}: {traced * (1 + error):.0f} here, {traced} traced ({100 * error:.3f} %)"


def test_most_rows_are_much_closer():
    errors = sorted(abs(accuracy.errors(row)["peak_forward_backward"]) for _, row in ROWS[::4])
    assert errors[len(errors) // 2] <= 0.005, "median error of the peak: at most 0.5 % is promised"
