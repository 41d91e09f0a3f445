"""Loading and saving: moments of their own, which do not enter the step's peak."""

from typing import Any

import pytest

from memcalc import size_training

MODEL, PARAMETERS = "llama-3.1-8b", 8_030_261_248


def step(gpu: str = "h100", **settings: Any) -> Any:
    return size_training(MODEL, gpu, **({"recompute": "full"} | settings))


# settings → host bytes a parameter while it loads, bytes of the model's file, of a checkpoint to resume from
CASES = (
    ({"gpus": 8, "zero": 3}, 2, 2, 2 + 12),  # rank 0 reads; ZeRO's checkpoint has fp32 weights and Adam's two states
    ({"gpus": 8, "zero": 2}, 16, 2, 2 + 12),  # eight ranks read a copy each
    ({"gpus": 8, "fsdp": "full"}, 4, 4, 4 + 8),  # fp32 shards
    ({"gpus": 2, "ddp": True, "precision": "bf16"}, 4, 2, 2 + 4),
    ({"gpus": 8, "tp": 8, "engine": "megatron"}, 0, 2, 2 + 12),  # weights are read into their places
)


@pytest.mark.parametrize(("settings", "read", "file", "checkpoint"), CASES, ids=lambda value: str(value))
def test_host_and_disk(settings: dict[str, Any], read: int, file: int, checkpoint: int) -> None:
    found = step(**settings)
    model, resumable = found.save
    assert found.start[0].host_per_node == pytest.approx(read * PARAMETERS, rel=0.001)
    assert model.on_disk == file * PARAMETERS
    assert resumable.on_disk == pytest.approx(checkpoint * PARAMETERS, rel=0.002)


def test_zero_2_flattens_a_copy_beside_the_parameters() -> None:
    """DeepSpeed runtime/zero/stage_1_and_2.py: "need 2x model size on accelerator to flatten in place"."""
    loading, flattening = step(gpus=8, zero=2).start
    assert (loading.name, flattening.name) == ("loading", "flattening")
    assert flattening.allocated - loading.allocated == 2 * PARAMETERS


def test_a_matrix_is_quantised_from_16_bit() -> None:
    (quantising,) = step(method="qlora").start
    assert quantising.lines[-1].bytes == 2 * 4096 * 14336  # the largest of the layers


def test_they_have_a_verdict_of_their_own_and_a_warning() -> None:
    found = step("rtx-4090", gpus=8, zero=2, offload=("optimizer",), seq_len=128)
    document = found.to_dict()
    flattening = document["start"][1]
    assert flattening["verdict"] == "no"
    assert any(warning.startswith("flattening needs") for warning in document["warnings"])
    assert document["per_gpu"]["peak"] == max(moment["allocated"] for moment in document["moments"])
    assert {"allocated", "device", "host_per_node", "disk", "verdict"} <= set(document["save"][0])
