"""The loss of a library's version: transformers 4.46 moved it (loss/loss_utils.py), 4.50 shifts the labels in its place."""

from collections.abc import Callable
from typing import Any

import pytest

from memcalc.specs.libraries import LIBRARIES, loss_of
from memcalc.specs.spec import SpecError
from memcalc.specs.step_settings import LOSS_NAMES
from memcalc.specs.training import Training

LOSSES = (
    ("transformers==4.45.2", "eager", "shifted-upcast"), ("transformers==4.46", "eager", "shifted"),
    ("transformers==4.49.0", "eager", "shifted"), ("transformers==4.50", "eager", "full"),
    ("transformers==5.24.0", "eager", "full"), ("transformer_engine==2.17", "te", "te"),
    ("transformer-engine==2.18.0", "te", "te-fp32"),
)  # fmt: skip
REFUSED = (
    ("transformers", "eager", "must be transformers==VERSION or trl==VERSION or transformer-engine==VERSION"),
    ("transformers==x", "eager", "must be"), ("peft==0.10", "eager", "must be"), ("transformers==3.5", "eager", "before 4.0"),
    ("transformers==4.46", "liger", "does not compute the loss of liger kernels"),
)  # fmt: skip


@pytest.mark.parametrize(("library", "kernels", "loss"), LOSSES)
def test_the_loss_of_a_version(library: str, kernels: str, loss: str) -> None:
    assert loss_of(library, kernels) == loss
    assert Training(library=library, kernels=kernels).loss_used == loss


@pytest.mark.parametrize(("library", "kernels", "said"), REFUSED)
def test_refused(library: str, kernels: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Training(library=library, kernels=kernels)


def test_every_loss_is_one_of_ours() -> None:
    assert {loss for row in LIBRARIES.values() for _, loss in row.losses} <= set(LOSS_NAMES)


def test_a_loss_that_is_named_wins() -> None:
    assert Training(library="transformers==4.46", loss="fused").loss_used == "fused"


@pytest.mark.parametrize("library", ["transformers==4.50", "trl==1.6"])
def test_preferences_have_a_loss_of_their_own(library: str) -> None:
    """What a version changed is the next token's loss, which no preference has: TRL's trainers take log-probabilities."""
    assert Training(library=library, objective="dpo").loss_used == Training(objective="dpo").loss_used == "log-probs"


def test_who_has_a_loss_of_its_own() -> None:
    with pytest.raises(SpecError, match="torchtune has a loss of its own"):
        Training(library="transformers==4.46", engine="torchtune")


def test_shifted_logits_are_copied(memcalc: Callable[..., Any]) -> None:
    """Llama 3.1 8B, 4,096 tokens of 128,256 words: a copy of the logits more, in 16 bit or fp32 by what lives at the peak."""
    command = "train llama-3.1-8b --gpus 8 --fsdp full --get per_gpu.peak"
    older, newer = (int(memcalc(f"{command} --library transformers=={version}").out) for version in ("4.46", "4.50"))
    assert 2 * 4096 * 128_256 <= older - newer <= 4 * 4096 * 128_256
