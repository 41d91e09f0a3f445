"""What a GPU holds beside the tensors, by generation."""

import pytest

from memcalc.estimates.overhead import overhead_lines
from memcalc.formulas.overhead import MEASURED, overhead, reserved_bytes
from memcalc.readers.catalogue import accelerator

MIB = 2**20


@pytest.mark.parametrize(
    ("gpu", "context", "workspace"),
    [
        ("v100", 319.25 * MIB, 8.125 * MIB),  # PyTorch issue 28394 (Titan V, pycuda), PyTorch issue 95668
        ("a100-sxm4-80", 300 * MIB, 8.125 * MIB),  # PyTorch issue 107667
        ("rtx-3090", 256 * MIB, 8.125 * MIB),  # InvokeAI issue 9413
        ("rtx-6000-ada", 426 * MIB, 8.125 * MIB),  # unsloth-zoo pull request 1053
        ("h100", 0.51 * 2**30, 32 * MIB),  # llm-d-planner pull request 205, PyTorch pull request 120925
        ("b200", 0.51 * 2**30, 32 * MIB),  # as Hopper: nobody published it
    ],
)
def test_context_and_workspace_are_those_of_the_generation(gpu: str, context: float, workspace: float) -> None:
    found = overhead(accelerator(gpu).architecture)
    assert (found.context, found.workspace) == (pytest.approx(context, abs=1), workspace)


def test_a_communicator_is_there_with_several_gpus_only() -> None:
    for generation in ("", *MEASURED):
        alone, several = (overhead_lines(generation, many) for many in (False, True))
        assert several[: len(alone)] == alone
        assert [entry.name for entry in several[len(alone) :]] == ["communicator"]


def test_reserved_is_whole_segments_above_what_is_allocated() -> None:
    for peak in (0, 1, 2 * MIB, 2 * MIB + 1):
        held = reserved_bytes(peak, 0)
        assert held % (2 * MIB) == 0
        assert 0 <= held - peak < 2 * MIB
