"""Linear position biases, encoders that normalise sums, relative biases, cross-attention and an audio stem against PyTorch
(tests/reference/kinds.json says how that was traced)."""

import json
from pathlib import Path
from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.placement import main_parts
from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

TRACED = json.loads((Path(__file__).parents[1] / "reference" / "kinds.json").read_text(encoding="utf-8"))
FORWARD, PEAK = 0.001, 0.02
RECOMPUTED = 0.006  # biases and masks as arguments of recomputed layers, beside these models' few bytes


def setting(row: list[Any]) -> tuple[dict[str, Any], Training]:
    name, precision, attention, recompute, *_ = row
    run = Training(precision=precision, micro_batch=2, seq_len=256, attention=attention, recompute=recompute)
    return TRACED["configs"][name], run


@pytest.mark.parametrize("row", TRACED["rows"], ids=lambda row: "-".join(row[:4]))
def test_a_step(row: list[Any]) -> None:
    values, run = setting(row)
    found = estimate(read_config(values), run)
    assert not found.rank.approximation
    steady, forward, peak = row[4:]
    assert found.steady == pytest.approx(steady, rel=0.003)  # allocator blocks of small parameters
    bound = FORWARD if run.recompute == "none" else RECOMPUTED
    assert found.after_forward - found.steady == pytest.approx(forward - steady, rel=bound)
    assert found.peak_forward_backward == pytest.approx(peak, rel=PEAK)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", TRACED["rows"][::3], ids=lambda row: "-".join(row[:4]))
def test_the_trace_is_the_reference(row: list[Any]) -> None:
    from memcalc.trace.step import trace

    traced = trace(*setting(row))
    assert [traced.steady, traced.after_forward, traced.peak_forward_backward] == row[4:]


def model(name: str) -> Architecture:
    return read_config(TRACED["configs"][name])


def test_what_stands_between_encoder_and_decoder_is_no_layer() -> None:
    stage = estimate(model("t5"), Training(seq_len=256)).rank.stage
    assert stage.layers == 4
    assert [layer.bridge for layer in stage.sequence.kinds].count(True) == 1


def test_an_encoder_on_another_pipeline_stage_is_refused() -> None:
    assert [part.name for part in main_parts(model("t5"))] == ["encoder", "decoder"]
    run = Training(seq_len=256, parallelism=Parallelism(gpus=2, pp=2))
    with pytest.raises(SpecError, match="an encoder with a decoder is not split into stages"):
        estimate(model("t5"), run)


def test_a_recording_is_as_long_as_ever() -> None:
    """What Whisper's encoder keeps does not depend on the decoder's tokens."""
    kept = [estimate(model("whisper"), Training(seq_len=n)).after_forward for n in (64, 128, 192)]
    assert kept[1] - kept[0] == pytest.approx(kept[2] - kept[1], rel=0.02)
    assert kept[0] - (kept[1] - kept[0]) > 3 * (kept[1] - kept[0])


def test_a_recording_is_cached_whole() -> None:
    """Cross-attention keeps keys and values of all 500 positions once a sequence; 4 heads of 64, twice."""
    blocks = [block for layer in model("whisper").parts[1].stacks[0].layers for _, block in layer.blocks]
    caches = [cache for block in blocks if getattr(block, "cross", False) for cache in block.cache()]
    assert [(cache.local_width(1), cache.source) for cache in caches] == [(512, 500)]


def test_frozen_positions_have_no_gradient() -> None:
    """500 positions of 256 numbers, in fp32: neither gradient nor two moments."""
    kept = [w.weight for w in model("whisper").weights if w.weight.frozen]
    assert [w.shape for w in kept] == [(500, 256)]
    found = estimate(model("whisper"), Training(seq_len=64, precision="fp32"))
    trained = model("whisper").parameters - 500 * 256
    lines = {entry.component: entry.bytes for entry in found.lines if entry.component == "gradients"}
    assert lines["gradients"] == 4 * trained


LLAMA = {
    "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4,
    "intermediate_size": 1024, "vocab_size": 32000, "tie_word_embeddings": False, "id2label": {"0": "no", "1": "yes"},
}  # fmt: skip
BERT = {
    "model_type": "bert", "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "intermediate_size": 1024,
    "vocab_size": 32000, "max_position_embeddings": 512, "type_vocab_size": 2,
}  # fmt: skip
MIB = 2**20


@pytest.mark.parametrize(
    ("config", "name", "precision", "after_forward", "peak"),
    [  # `memcalc trace DIR --micro-batch 8 --seq-len 256` under PyTorch 2.13 and transformers 5.24
        (LLAMA, "LlamaForSequenceClassification", "bf16", 205.03, 221.02),
        (LLAMA, "LlamaForSequenceClassification", "bf16-amp", 356.86, 370.86),
        (LLAMA, "LlamaForTokenClassification", "bf16", 206.04, 221.02),
        (LLAMA, "LlamaForTokenClassification", "bf16-amp", 357.88, 370.86),
        (BERT, "BertForSequenceClassification", "bf16", 178.11, 182.58),
        (BERT, "BertForTokenClassification", "bf16", 177.59, 180.57),
        (BERT | {"model_type": "roberta"}, "RobertaForSequenceClassification", "bf16", 176.15, 182.61),
    ],
)
def test_task_heads_keep_what_pytorch_keeps(
    config: dict[str, Any], name: str, precision: str, after_forward: float, peak: float
) -> None:
    run = Training(micro_batch=8, seq_len=256, precision=precision, attention="sdpa")
    found = estimate(read_config({**config, "architectures": [name]}), run)
    assert found.after_forward == pytest.approx(after_forward * MIB, rel=2e-3)
    assert found.peak_forward_backward == pytest.approx(peak * MIB, rel=2e-3)
