"""DeepSpeed: copies of gradients in the step, buckets, ZeRO++'s second copy, MiCS (deepspeed/runtime/zero)."""

import pytest

from memcalc.estimates.training.estimate import estimate
from memcalc.estimates.training.sharding.strategy import GATHERED
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_model
from memcalc.sizing.training import size_training
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

GROUP = 1_000_000_000


def found(name="llama-3.2-1b", run=None, **parallelism):
    architecture = read_model(name).architecture
    return estimate(architecture, Training(parallelism=Parallelism(**parallelism), seq_len=64, **run or {}))


COPIES = [  # bytes of both copies for each of a rank's elements (stage_1_and_2.py, step; stage3.py)
    ({"gpus": 2, "zero": 2}, {}, 6),
    ({"gpus": 2, "zero": 3}, {}, 6),
    ({"gpus": 2, "zero": 3, "sub_group_size": 10**8}, {}, 6e8 / 617_907_200),
    ({"gpus": 2, "zero": 1}, {}, 6 - 2),  # other ranks' gradients leave first
    ({"gpus": 8, "zero": 1}, {}, 0),
    ({"gpus": 2, "zero": 2}, {"precision": "fp32"}, 4),  # flattened alone
    ({"gpus": 2, "zero": 2}, {"offload": ("optimizer",)}, 0),
    ({"gpus": 2, "zero": 1}, {"engine": "megatron"}, 0),
]


@pytest.mark.parametrize(("strategy", "run", "each"), COPIES)
def test_the_step_copies_gradients(strategy, run, each):
    step = found(run=run, **strategy)
    made = [entry.bytes for entry in step.rank.step if entry.name == "flattened gradients"]
    share = step.trainable / strategy["gpus"]
    assert sum(made) == pytest.approx(each * share, rel=1e-3)


def test_the_step_of_a_reported_run():
    """Llama 3.2 1B under ZeRO 2 on two GPUs: 2 + 12 / 2 + (2 + 6) / 2 bytes a parameter, 13.8 GiB."""
    step = found(gpus=2, zero=2)
    assert step.peak_optimizer_step == pytest.approx(12 * step.trainable, rel=1e-3)


def test_stage_3_keeps_a_buffer_for_all_gradients():
    """stage3.py, grad_partitions_flat_buffer."""
    step = found(gpus=8, zero=3)
    share = 2 * step.trainable / 8
    assert all(moment.gradients == pytest.approx(share, rel=1e-2) for moment in step.shown if moment.name != "optimizer step")


BUCKETS = [  # elements (stage_1_and_2.py, setup_buckets; stage3.py)
    ({"zero": 2}, 5e8),
    ({"zero": 2, "overlap_comm": True}, 1e9),
    ({"zero": 3, "reduce_bucket_size": 10**7}, 1e7),
]


@pytest.mark.parametrize(("strategy", "elements"), BUCKETS)
def test_buckets(strategy, elements):
    lines = {entry.name: entry.bytes for entry in found(gpus=8, **strategy).rank.lines}
    assert lines["reduce buckets"] == 2 * elements


def test_auto_is_what_transformers_fills_in():
    """transformers/integrations/deepspeed.py, trainer_config_finalize: hidden²."""
    step = size_training("llama-3.2-1b", gpus=8, zero=2, auto_buckets=True)
    assert step.run.parallelism.bucket_elements == 2048**2


def test_frozen_weights_in_8_bits():
    """runtime/engine.py, quantize_nontrainable_params: tensors of more than 500,000 values, with a scale for each 8,000."""
    run = {"method": "lora", "precision": "fp16-mixed"}
    plain, low = (found(run=run, gpus=8, zero=3, quantized_frozen=quantized) for quantized in (False, True))
    matrices = 1_235_814_400 - 33 * 2048
    assert plain.steady - low.steady == pytest.approx(matrices / 8 * (1 - 4 / 8000), rel=1e-4)
    gathered = [max(e.bytes for e in step.lines if e.name == "gathered parameters") for step in (plain, low)]
    assert gathered[0] == gathered[1]  # in 16 bits


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"precision": "fp16-mixed"}, "add method lora"),
        ({"method": "lora"}, "fp16 weights alone"),
        ({"method": "qlora", "precision": "fp16-mixed"}, "beside adapters"),
    ],
)
def test_what_frozen_weights_in_8_bits_need(run, words):
    with pytest.raises(SpecError, match=words):
        found(run=run, gpus=8, zero=3, quantized_frozen=True)


def test_a_second_copy_and_groups_of_ranks():
    """partition_parameters.py, ds_secondary_tensor; mics.py."""
    plain, copied, grouped = (
        found(gpus=8, zero=3),
        found(gpus=8, zero=3, hpz_partition_size=4),
        found(gpus=8, zero=3, shard_size=4),
    )
    assert copied.steady - plain.steady == pytest.approx(2 * plain.trainable / 4, rel=1e-3)
    assert grouped.steady == pytest.approx(2 * plain.steady, rel=1e-3)


REFUSED = [
    ({"gpus": 8, "reduce_bucket_size": 1}, "add zero 1 or 2 or 3"),
    ({"gpus": 8, "zero": 2, "sub_group_size": 1}, "add zero 3"),
    ({"gpus": 8, "zero": 3, "overlap_comm": True}, "add zero 1 or 2"),
    ({"gpus": 8, "zero": 2, "shard_size": 4}, "MiCS"),
    ({"gpus": 8, "zero": 2, "auto_buckets": True}, "of which model"),
]


@pytest.mark.parametrize(("settings", "text"), REFUSED)
def test_what_does_not_go_together_is_refused(settings, text):
    with pytest.raises(SpecError, match=text):
        Parallelism(**settings)


# DeepSpeed 0.19.8 on two processes, bf16: parameters that are there or on their way, in layers of 49,536 elements, when the
# coordinator's trace is complete; limit (max_live_parameters, in layers), at the loss, in the backward of the last and of the
# first layer. The embedding is 1.29 layers, as is the head.
FETCHED = [(3, 3.06, 3.24, 2.31), (1e5, 10.58, 9.29, 2.31)]
TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 8, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 1000, "tie_word_embeddings": False, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize(("limit", "loss", "last", "first"), FETCHED)
def test_parameters_are_fetched_until_so_many_are_there(limit, loss, last, first):
    layer = 49_536
    parallelism = Parallelism(gpus=2, zero=3, max_live_parameters=int(limit * layer), reduce_bucket_size=1)
    step = estimate(read_config(TINY), Training(parallelism=parallelism, seq_len=16, micro_batch=1))
    lines = {form.name: [entry.bytes for entry in form.lines if entry.name == GATHERED] for form in step.rank.forms.moments}
    there = {name: sum(gathered) / 2 / layer for name, gathered in lines.items()}
    assert there["loss"] == pytest.approx(loss, rel=0.03)
    assert there["backward of the last layer"] == pytest.approx(last, rel=0.11)
    assert there["backward of the first layer"] == pytest.approx(first, rel=0.03)


def test_models_on_the_textbook_formula_fetch_as_many():
    step = found("inkling-2-mini", gpus=64, zero=3, max_live_parameters=2 * 10**9)
    (gathered,) = (entry.bytes for entry in step.lines if entry.name == GATHERED)
    assert step.rank.approximation
    assert gathered == 4 * 10**9  # more than its largest layer


def test_fewer_live_parameters_need_less_and_never_less_than_runs():
    needed = [found("qwen2.5-0.5b", gpus=8, zero=3, max_live_parameters=n).peak for n in (0, 10**8, 10**9, 10**12)]
    assert needed[0] <= needed[1] < needed[2] == needed[3]  # all of its 494 million
