"""FSDP's settings: gradients that wait whole, units that hold frozen weights and adapters, when the backward gathers."""

from collections.abc import Callable
from typing import Any

import pytest

from memcalc.estimates.training.estimate import TrainingEstimate
from memcalc.sizing.training import size_training
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

PARAMETERS, LAYERS = 6_738_415_616, 32 * 202_383_360  # Llama-2-7B: all, and in its layers
SHORT = {"seq_len": 64, "recompute": "full"}


def sized(fsdp: dict[str, Any] | None = None, **settings: Any) -> TrainingEstimate:
    p = Parallelism(gpus=8, **{"fsdp": "full", **(fsdp or {})})
    return size_training("llama-2-7b", run=Training(**{**SHORT, **settings}, parallelism=p))


# settings of FSDP, of the run, bytes of all gradients that stand, source
STANDING = (
    ({}, {"engine": "accelerate", "grad_accum": 4}, 2 * PARAMETERS,
     "transformers/trainer.py: accelerator.no_sync for all but the last; flat parameters' gradients in the compute format"),
    ({"sync_each_batch": True}, {"engine": "accelerate", "grad_accum": 4}, 4 * PARAMETERS // 8,
     "accelerate/utils/dataclasses.py, GradientAccumulationPlugin.sync_each_batch"),
    ({}, {"engine": "accelerate"}, 4 * PARAMETERS // 8, "one micro-batch has nothing to wait for"),
    ({}, {"engine": "torchtitan", "grad_accum": 4}, 4 * PARAMETERS // 8, "torchtitan reduces after every micro-batch"),
    ({}, {"engine": "litgpt", "method": "lora", "precision": "bf16", "grad_accum": 4}, 2 * LAYERS,
     "torch/distributed/fsdp/_flat_param.py: views of one flat parameter, whose gradient is as large"),
    ({}, {"engine": "litgpt", "method": "lora", "precision": "bf16"}, 2 * LAYERS // 8, "the same, reduced"),
    ({}, {"engine": "accelerate", "method": "lora", "precision": "bf16", "grad_accum": 4}, 0,
     "peft/utils/other.py, fsdp_auto_wrap_policy: adapters are units of their own"),
)  # fmt: skip


@pytest.mark.parametrize(("fsdp", "settings", "expected", "source"), STANDING, ids=lambda value: str(value)[:50])
def test_gradients_that_stand(fsdp: dict[str, Any], settings: dict[str, Any], expected: int, source: str) -> None:
    found = sized(fsdp, **settings)
    gradients = sum(entry.bytes for entry in found.rank.gradients)
    adapters = 40_000_000 * 4 if "method" in settings else 0
    assert expected <= gradients <= expected * 1.001 + adapters, source


def test_gradients_that_waited_are_shards_at_the_step() -> None:
    found = sized(engine="accelerate", grad_accum=4)
    assert found.optimizer_step.gradients == sized(engine="accelerate").optimizer_step.gradients
    assert found.peak > sized({"sync_each_batch": True}, engine="accelerate", grad_accum=4).peak + PARAMETERS


def test_prefetching_in_the_backward() -> None:
    """One layer gathered, or two (torch.distributed.fsdp.BackwardPrefetch)."""
    peaks = {word: sized({"backward_prefetch": word}, method="lora").peak for word in ("pre", "post", "none")}
    assert peaks["pre"] - peaks["none"] == pytest.approx(2 * LAYERS / 32, rel=0.02)
    assert peaks["post"] == peaks["none"]


@pytest.mark.parametrize(("settings", "words"), [
    ({"gpus": 8, "zero": 3, "backward_prefetch": "none"}, "FSDP's settings"),
    ({"gpus": 8, "sync_each_batch": True}, "FSDP's settings"),
    ({"gpus": 8, "fsdp": "none", "sync_each_batch": True}, "FSDP's settings"),
    ({"gpus": 8, "fsdp": "grad-op", "backward_prefetch": "pre"}, "gathers nothing in the backward"),
], ids=str)  # fmt: skip
def test_what_they_need(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Parallelism(**settings)


@pytest.mark.parametrize(("words", "code"), [
    (("--fsdp-sharding-strategy", "FULL_SHARD", "--fsdp_backward_prefetch", "NO_PREFETCH"), 0),
    (("--fsdp", "full", "--fsdp_forward_prefetch", "true"), 2), (("--fsdp", "full", "--limit-all-gathers"), 2),
    (("--fsdp", "full", "--fsdp_use_orig_params", "true"), 2), (("--fsdp", "full", "--backward-prefetch", "later"), 2),
], ids=str)  # fmt: skip
def test_words_of_accelerate(memcalc: Callable[..., Any], words: tuple[str, ...], code: int) -> None:
    result = memcalc("train", "llama-3.2-1b", "--gpus", "8", *words)
    assert result.code == code, result.err
    assert not code or result.err.count("\n") == 1
