"""A step inside the backward, on the host, with clipping and a moving average."""

from typing import Any

import pytest

from memcalc.estimates.training.estimate import TrainingEstimate, estimate
from memcalc.readers.hf import read_config
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training
from memcalc.trace.step import trace

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16, "num_key_value_heads": 8,
    "vocab_size": 32000, "tie_word_embeddings": False, "num_hidden_layers": 4, "max_position_embeddings": 8192,
}  # fmt: skip
TIED = {**LLAMA, "tie_word_embeddings": True}
ELEMENTS = 2 * 32000 * 1024 + 4 * (3 * 2816 * 1024 + 3 * 1024 * 1024 + 2 * 1024) + 1024
RUN = {"precision": "bf16", "micro_batch": 1, "recompute": "full"}


def sized(values: dict[str, Any] = LLAMA, **settings: Any) -> TrainingEstimate:
    return estimate(read_config(values), Training(**{**RUN, "seq_len": 64, **settings}))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("values", [LLAMA, TIED], ids=["own head", "tied"])
@pytest.mark.parametrize("how", ["fused", "foreach", "for-loop"])
@pytest.mark.parametrize("length", [32, 512])
def test_as_pytorch_steps(values: dict[str, Any], how: str, length: int) -> None:
    """AdamW of each tensor in a hook after its gradient is accumulated, as torchtune does (training/memory.py,
    register_optim_in_bwd_hooks)."""
    run = Training(**RUN, seq_len=length, optimizer_in_backward=True, optimizer_impl=how)
    traced, found = trace(values, run), estimate(read_config(values), run)
    for name in ("steady", "after_forward", "peak_forward_backward", "peak_optimizer_step"):
        assert getattr(found, name) == pytest.approx(getattr(traced, name), rel=0.0005), name


def test_no_gradients_stand_and_no_step_follows() -> None:
    usual, inside = sized(), sized(optimizer_in_backward=True)
    assert usual.peak_optimizer_step - inside.peak_optimizer_step == 2 * ELEMENTS
    assert inside.peak_optimizer_step == inside.steady
    assert inside.replayed
    assert usual.peak - inside.peak > ELEMENTS  # all gradients but the head's


def test_lomo_is_inside_anyway() -> None:
    """Gradient and parameter of the tensor in hand are in fp32 for its update (lomo-optim 0.1 lomo.py, fuse_update)."""
    found = sized(optimizer="lomo")
    assert found.steady == sized(optimizer="sgd").steady
    assert found.peak - found.steady == pytest.approx(5 * 2 * 32000 * 1024, rel=0.01)


def test_one_gpu_with_its_optimizer_on_the_host() -> None:
    """torchao optim/cpu_offload.py: pinned copies of parameters and gradients, states; gradients wait on the GPU."""
    found = sized(offload=("optimizer",))
    assert found.steady == sized(optimizer="sgd").steady
    assert found.peak_optimizer_step - found.steady == 2 * ELEMENTS
    assert found.host_per_node == (2 + 2 + 4) * ELEMENTS
    assert sized(offload=("optimizer", "gradients")).peak_optimizer_step == found.steady


@pytest.mark.parametrize(("average", "each"), [("weights", 2), ("fp32", 4)])
def test_a_moving_average_stands(average: str, each: int) -> None:
    assert sized(ema=average).steady - sized().steady == each * ELEMENTS


def test_clipping_sums_by_chunks() -> None:
    """One fp32 partial sum for each chunk of 65,536 elements that the largest tensor has, for each of 39 tensors
    (ATen/native/cuda/ForeachReduceOp.cu)."""
    found, usual = sized(max_grad_norm=1.0), sized()
    assert found.peak_optimizer_step - usual.peak_optimizer_step == 39 * 500 * 4
    assert sized(max_grad_norm=1.0, optimizer_impl="foreach").peak == sized(optimizer_impl="foreach").peak


def test_momentum_under_foreach_makes_nothing() -> None:
    """torch/optim/sgd.py, _multi_tensor_sgd: in place."""
    fused, foreach = (sized(optimizer="sgd-momentum", optimizer_impl=how) for how in ("fused", "foreach"))
    assert fused.peak_optimizer_step == foreach.peak_optimizer_step


@pytest.mark.parametrize(("settings", "said"), [
    ({"grad_accum": 2}, "no gradient to accumulate to"),
    ({"parallelism": {"gpus": 2}}, "before DDP has reduced"),
    ({"parallelism": {"gpus": 2, "zero": 2}}, "not what DeepSpeed's"),
    ({"max_grad_norm": 1.0}, "before the norm of all gradients is known"),
    ({"optimizer": "adalomo"}, "steps in the backward anyway"),
])  # fmt: skip
def test_what_contradicts_it_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Training(**{**RUN, "optimizer_in_backward": True, **settings})


def test_shards_are_stepped_as_they_are_reduced() -> None:
    """FSDP2 in torchtune: the hook runs on the reduced shard."""
    usual = sized(parallelism={"gpus": 2, "fsdp": "full"})
    inside = sized(parallelism={"gpus": 2, "fsdp": "full"}, optimizer_in_backward=True)
    assert inside.peak < usual.peak
    assert inside.peak_optimizer_step == inside.steady
