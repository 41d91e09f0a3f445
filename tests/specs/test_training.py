"""Training runs: rules within a run and between a run and its parallelism."""

from typing import Any

import pytest

from memcalc.formulas.optimizer_table import OPTIMIZERS
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

# settings, parallelism, the fields that the refusal names, what it says
REFUSED: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...], str]] = [
    ({"precision": "bf15"}, {}, ("precision",), "did you mean bf16?"),
    ({"precision": "int8"}, {}, ("precision",), "fp32, fp16, bf16, fp16-amp, bf16-amp"),
    ({"optimizer": "adamv"}, {}, ("optimizer",), "did you mean adam or adamw"),
    ({"optimizer": 3}, {}, ("optimizer",), "3 is not one of"),
    ({"micro_batch": 0}, {}, ("micro_batch",), "between 1 and"),
    ({"micro_batch": 2.5}, {}, ("micro_batch",), "a whole number"),
    ({"grad_accum": -1}, {}, ("grad_accum",), "between 1 and"),
    ({"seq_len": 2**31 + 1}, {}, ("seq_len",), "between 1 and 2,147,483,648"),
    ({"micro_batch": 2**20, "seq_len": 2**21}, {}, ("micro_batch", "seq_len"), "1,048,576 × 2,097,152 tokens"),
    ({"recompute": "some"}, {}, ("recompute",), "none, selective, full"),
    ({"attention": "flush"}, {}, ("attention",), "did you mean flash or flash3?"),
    ({"method": "loora"}, {}, ("method",), "did you mean lora"),
    ({"lora_rank": 0}, {}, ("lora_rank",), "between 1 and"),
    ({"offload": ("optimiser",)}, {"gpus": 8, "zero": 3}, ("offload",), "did you mean optimizer?"),
    ({"offload": ("optimizer", "weights")}, {"gpus": 8, "zero": 3}, ("offload",), "not one of optimizer, parameters"),
    ({"offload_to": "disk"}, {}, ("offload_to",), "cpu, nvme"),
    ({"seq_len": 4097}, {"gpus": 2, "cp": 2}, ("cp", "seq_len"), "must divide the sequence of 4097 tokens"),
    ({"seq_len": 1001}, {"gpus": 2, "tp": 2, "sequence_parallel": True}, ("tp", "seq_len"), "divide the 1001 tokens"),
    ({"seq_len": 6}, {"gpus": 8, "tp": 4, "cp": 2, "sequence_parallel": True}, ("tp", "seq_len"), "the 3 tokens"),
    ({"optimizer": "muon"}, {"gpus": 8, "zero": 1}, ("optimizer", "zero"), "elementwise optimizer such as adamw"),
    ({"offload": ("parameters",)}, {"gpus": 8}, ("offload", "zero"), "fsdp full, grad-op or hybrid"),
    ({"offload": ("parameters",)}, {"gpus": 8, "zero": 2}, ("offload", "zero"), "zero 3, or fsdp full"),
    ({"offload": ("parameters",)}, {"gpus": 8, "fsdp": "none"}, ("offload", "zero"), "zero 3, or fsdp full"),
    ({"offload": ("optimizer",)}, {"gpus": 8}, ("offload", "zero"), "zero 1, 2 or 3, or fsdp"),
    ({"offload": ("optimizer",), "offload_to": "nvme"}, {"zero": 2}, ("offload_to", "zero"), "part of ZeRO 3"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "sharding", "fields", "said"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(settings: dict[str, Any], sharding: dict[str, Any], fields: tuple[str, ...], said: str) -> None:
    parallelism = Parallelism(**sharding)
    with pytest.raises(SpecError) as caught:
        Training(parallelism=parallelism, **settings)
    message = str(caught.value)
    assert caught.value.fields == fields, message
    assert message.startswith(", ".join(fields) + ": "), message
    assert said in message
    assert message.isprintable(), message


def test_elementwise_optimizers_and_only_they_go_with_zero() -> None:
    for name, row in OPTIMIZERS.items():
        accepted = True
        try:
            Training(optimizer=name, parallelism=Parallelism(gpus=8, zero=1))
        except SpecError:
            accepted = False
        cut = row.elementwise and not row.in_backward  # a flat partition has no gradient before all of it has
        assert accepted == cut, f"{name}: accepted {accepted}, elementwise {row.elementwise}"
        assert Training(optimizer=name, parallelism=Parallelism(gpus=1)).optimizer == name


def test_a_huge_value_makes_a_short_message() -> None:
    with pytest.raises(SpecError) as caught:
        Training(precision="x" * 10_000)
    assert len(str(caught.value)) < 300
