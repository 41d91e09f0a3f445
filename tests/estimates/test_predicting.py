"""Layers that predict further tokens: what they add, where they stand, what is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from memcalc import SpecError, Unsupported, size_training
from memcalc.estimates.training.estimate import every_stage

HIDDEN, VOCABULARY, LAYER = 4096, 128256, 218_112_000  # Llama 3.1 8B


def sized(model: str = "llama-3.1-8b", **settings: Any) -> Any:
    return size_training(model, engine="megatron", **({"seq_len": 2048} | settings))


def test_a_layer_and_a_matrix_that_joins_two_states() -> None:
    """multi_token_prediction.py, MultiTokenPredictionLayer: enorm, hnorm, eh_proj [h, 2h], a layer, final_layernorm."""
    added = sized(mtp_layers=1).trainable - sized().trainable
    assert added == LAYER + 2 * HIDDEN**2 + 3 * HIDDEN
    assert sized(mtp_layers=2).trainable - sized().trainable == 2 * added


def test_a_loss_more_for_each() -> None:
    """process_mtp_loss: the logits of each stay until the backward of the model's own loss is over."""
    found = [sized(mtp_layers=count or None, recompute="full", loss="te") for count in (0, 1, 2)]
    plain, one, two = (next(m.activations for m in each.shown if m.name == "after forward") for each in found)
    logits = 2048 * VOCABULARY * 2  # 16 bits under Transformer Engine's cross-entropy
    for more, less in ((one, plain), (two, one)):
        assert logits < more - less < 1.15 * logits  # and the layer's input, and its head's


def test_the_stage_that_has_them_has_the_embedding_too() -> None:
    stages = {layout: every_stage(*_question(layout)) for layout in ("Et*15|t*17,mL", "Et*8|t*8|t*16,m|L")}
    last = stages["Et*15|t*17,mL"][-1]
    assert last.trainable == 17 * LAYER + LAYER + 2 * HIDDEN**2 + 4 * HIDDEN + 2 * VOCABULARY * HIDDEN
    alone = stages["Et*8|t*8|t*16,m|L"]
    assert alone[2].trainable == 17 * LAYER + 2 * HIDDEN**2 + 3 * HIDDEN + VOCABULARY * HIDDEN
    assert alone[3].trainable == HIDDEN + VOCABULARY * HIDDEN


def _question(layout: str) -> Any:
    stages = layout.count("|") + 1
    found = sized(gpus=stages, pp=stages, pipeline_layout=layout)
    return found.architecture, found.run


def test_deepseek_v3_as_its_recipes_lay_it_out(memcalc: Callable[..., Any]) -> None:
    """Megatron-Bridge, recipes/deepseek/deepseek_v3.py: 61 layers, one that predicts."""
    result = memcalc(
        "train deepseek-v3 --engine megatron --gpus 256 --pp 16 --ep 16 --pipeline-layout Et*3|(tt|)*29,m|L --recompute full "
        "--grad-accum 32 --gpu b200 --format json"
    )
    assert result.code == 0
    assert result.document["time"]["step_seconds"] > 0
    assert memcalc("train deepseek-v3 --engine megatron --mtp-layers 1 --gpus 64 --ep 64 --explain peak").code == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mtp_layers": 1, "engine": "torch"}, "add engine megatron"),
        ({"mtp_layers": 1, "method": "lora"}, "without method"),
        ({"mtp_layers": 2, "gpus": 2, "pp": 2, "pipeline_layout": "Et*16|t*16,mL"}, "2, but the layout has 1"),
        ({"mtp_layers": 0, "gpus": 2, "pp": 2, "pipeline_layout": "Et*16|t*16,mL"}, "0, but the layout has 1"),
        ({"mtp_layers": 17}, "16"),
        ({"gpus": 2, "pp": 2, "pipeline_layout": "Et*16,m|t*16,L"}, "a layout is E"),
    ],
)
def test_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        size_training("llama-3.1-8b", **({"engine": "megatron"} | settings))


def test_models_that_have_none() -> None:
    with pytest.raises(SpecError, match="a parameter count has no layers"):
        sized("7B", mtp_layers=1)
    with pytest.raises(Unsupported, match="prediction layers"):
        sized("t5-base", mtp_layers=1)
