"""The last layers alone trained: memcalc beside PyTorch's own count of a step (marked torch)."""

import pytest

from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.training import Training
from memcalc.trace.model import build
from tests.trace.steps import BOUNDS, LLAMA, two_steps


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("precision", ["bf16", "bf16-amp"])
def test_a_step(precision: str, recompute: str, layers: int) -> None:
    """LLaMA-Factory's freeze: requires_grad is set for the last layers alone (model/adapter.py, _setup_freeze_tuning)."""
    run = Training(precision=precision, recompute=recompute, train_layers=layers, micro_batch=2, seq_len=512)
    model = build(LLAMA, half=precision == "bf16", attention="sdpa")
    for name, parameter in model.named_parameters():
        part = name.split(".")
        parameter.requires_grad_("layers" in part and int(part[2]) >= 6 - layers)
    theirs = two_steps(model, run, leaf=False)._asdict()
    found = estimate(read_config(LLAMA), run)
    for name, bound in BOUNDS.items():
        ours = getattr(found, name)
        assert abs(ours / theirs[name] - 1) <= bound, f"{name}: {ours:,} here, {theirs[name]:,} traced"
