"""Whatever kernels run the rest of a model, what its classes write out themselves is recorded, with the same parameters."""

import pytest

from memcalc.autograd.profile import KERNELS
from memcalc.sizing.training import size_training

MODELS = (
    ("deberta-v3-small", "full"), ("deberta-v3-small", "lora"), ("xlnet-large-cased", "full"), ("conv-bert-base", "full"),
    ("squeezebert-uncased", "full"), ("fnet-base", "lora"), ("moonshine-tiny", "full"),
)  # fmt: skip


@pytest.mark.parametrize(("model", "method"), MODELS)
def test_every_kernel_records_every_class(model: str, method: str) -> None:
    trained = {
        kernels: size_training(model, seq_len=128, method=method, kernels=kernels).to_dict()["per_gpu"]["trainable_parameters"]
        for kernels in KERNELS
    }
    if method == "full":
        assert len(set(trained.values())) == 1, trained
    assert all(trained.values())


@pytest.mark.parametrize("kernels", ["te", "litgpt"])
def test_positions_read_the_matrices_of_content(kernels: str) -> None:
    """modeling_deberta_v2.py, disentangled_attention_bias with share_att_key: query_proj and key_proj are called again."""
    peaks = {
        each: size_training("deberta-v3-small", seq_len=128, kernels=each).to_dict()["per_gpu"]["peak"]
        for each in (kernels, "compiled")
    }
    assert peaks[kernels] == pytest.approx(peaks["compiled"], rel=0.01)
