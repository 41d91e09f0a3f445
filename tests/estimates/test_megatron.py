"""Megatron-LM: gradients in their bucket, dummy gradients, sequence parallelism, experts and losses."""

import pytest

from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

LLAMA = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "num_attention_heads": 16,
    "num_key_value_heads": 8, "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
MIXTURE = LLAMA | {
    "model_type": "qwen3_moe", "num_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 512, "head_dim": 64,
    "mlp_only_layers": [], "decoder_sparse_step": 1, "norm_topk_prob": True,
}  # fmt: skip


def found(config=LLAMA, **settings):
    names = set(Parallelism.model_fields)
    parallelism = Parallelism(**{name: value for name, value in settings.items() if name in names})
    rest = {name: value for name, value in settings.items() if name not in names}
    run = Training(parallelism=parallelism, engine="megatron", **{"seq_len": 2048, "attention": "flash"} | rest)
    return estimate(read_config(config), run)


def line(of, name):
    return next((entry for entry in of.rank.lines if entry.name == name), None)


STATES = [  # megatron/core/optimizer/distrib_optimizer.py; docs: theoretical bytes a parameter
    ("plain data parallel", {"gpus": 8}, 18),
    ("distributed optimizer", {"gpus": 8, "zero": 1}, 6 + 12 / 8),
    ("one GPU", {}, 18),
]


@pytest.mark.parametrize(("name", "settings", "bytes_each"), STATES, ids=[case[0] for case in STATES])
def test_bytes_of_a_parameter_at_the_step(name, settings, bytes_each):
    step = found(**settings)
    dummies = line(step, "dummy weight gradients").bytes
    assert step.peak_optimizer_step - dummies == pytest.approx(bytes_each * step.trainable, rel=1e-6), name


DUMMIES = [  # transformer_engine/pytorch/module/base.py, get_dummy_wgrad: one for each distinct shape of a rank's stage
    ("merged products and the head", LLAMA, {}, [(2048, 1024), (1024, 1024), (5632, 1024), (1024, 2816), (32000, 1024)]),
    ("cut over ranks", LLAMA, {"gpus": 2, "tp": 2}, [(1024, 1024), (1024, 512), (2816, 1024), (1024, 1408), (16000, 1024)]),
    ("one expert's", MIXTURE, {"gpus": 8, "ep": 8}, [(2048, 1024), (1024, 1024), (1024, 512), (32000, 1024)]),
]


@pytest.mark.parametrize(("name", "config", "settings", "shapes"), DUMMIES, ids=[case[0] for case in DUMMIES])
def test_dummy_gradients(name, config, settings, shapes):
    made = line(found(config, **settings), "dummy weight gradients")
    assert sorted(part.shape for part in made.parts) == sorted(set(shapes)), name
    assert made.bytes == sum(2 * rows * columns for rows, columns in set(shapes))


LOSSES = [  # bytes for each logit at the highest moment of the head's backward
    ("te", 2),  # written over the 16-bit logits
    ("te-fp32", 6),  # an fp32 gradient, and its cast
    ("vocab-parallel", 6),  # over fp32 probabilities, and its cast
]


@pytest.mark.parametrize(("loss", "each"), LOSSES)
def test_the_loss(loss, each):
    step = found(loss=loss, seq_len=8192, gpus=1)
    head = next(moment for moment in step.shown if moment.name == "gradient of the loss")
    other = next(moment for moment in found(loss="te", seq_len=8192).shown if moment.name == "gradient of the loss")
    logits = 8192 * 32000
    assert head.activations - other.activations == pytest.approx((each - 2) * logits, abs=3 * 8192 * 1024 * 2), loss


def test_sequence_parallel_ranks_keep_their_share_and_gather_again():
    share = found(gpus=4, tp=4, sequence_parallel=True).at_peak
    named = {part.name for entry in share.lines for part in entry.parts}
    kept = [part for entry in share.lines for part in entry.parts if entry.name == "layers/input_norm"]
    assert {part.shape for part in kept if part.name == "norm"} == {(2048, 256)}
    assert "head's input, gathered" in named  # megatron/core/tensor_parallel/layers.py: the global memory buffer


def test_torch_keeps_what_it_gathers():
    """DTensor's redistribution is not undone: a linear layer keeps its whole input (torch/nn/functional, F.linear)."""
    run = Training(parallelism=Parallelism(gpus=4, tp=4, sequence_parallel=True), engine="torchtitan", seq_len=2048)
    step = estimate(read_config(LLAMA), run)
    names = [part for entry in step.lines for part in entry.parts if part.name == "gathered"]
    assert names
    assert {part.shape for part in names} == {(2048, 1024)}


def test_experts_weight_their_rows_before_the_second_product():
    """megatron/core/transformer/moe/experts.py: no result of the second product is kept, nor weighted in fp32."""
    step = found(MIXTURE, gpus=8, ep=8)
    kept = {part.name: part for entry in step.lines for part in entry.parts if entry.name == "layers/mlp"}
    assert "down" not in kept
    assert kept["gate_up"].shape == (2048, 4 * 2 * 512)  # four rows a token
    assert any(moment.name == "forward of the last layer" for moment in step.shown)


UNFUSED = [  # megatron/core/transformer/dot_product_attention.py
    ("llama: probabilities", 2),
]


@pytest.mark.parametrize(("name", "each"), UNFUSED)
def test_unfused_attention(name, each):
    step = found(attention="eager", seq_len=1024)
    pairs = [part for entry in step.lines for part in entry.parts if entry.name == "layers/attention" and len(part.shape) == 4]
    assert sum(part.bytes for part in pairs) == each * 16 * 1024**2, name


MODULES = [  # bytes a token and layer that recomputing a module spares (megatron/core/transformer/transformer_layer.py, moe/)
    ("moe_act", MIXTURE, "forward of the last layer", 4 * 512 * 2),  # the second product's input
    ("layernorm", MIXTURE, "forward of the last layer", 1024 * 2),  # the experts' norm; attention's is fused into its product
    ("mlp", LLAMA, "backward of the last layer", (3 * 2816 + 1024) * 2 + 4),  # gate, up, product and the fused norm
]


@pytest.mark.parametrize(("module", "config", "moment", "each"), MODULES, ids=[case[0] for case in MODULES])
def test_modules_that_are_recomputed(module, config, moment, each):
    """All other layers keep so much less."""
    settings = {"gpus": 8, "ep": 8} if config is MIXTURE else {}
    without = found(config, **settings)
    alone = found(config, recompute="selective", recompute_modules=(module,), **settings)
    assert without.after_forward - alone.after_forward == pytest.approx(4 * 2048 * each, rel=0.01), module


def test_everything_is_made_again_before_it_is_needed():
    """Recomputing all parts of the last layer makes its backward no cheaper than without recomputation."""
    whole = found(MIXTURE | {"num_hidden_layers": 1}, gpus=8, ep=8)
    parts = found(MIXTURE | {"num_hidden_layers": 1}, gpus=8, ep=8, recompute="selective", recompute_modules=("moe",))
    last = [next(m.bytes for m in step.shown if m.name.startswith("backward of the")) for step in (whole, parts)]
    assert last[1] == pytest.approx(last[0], rel=1e-3)


def test_uniform_keeps_one_input_a_chunk():
    """megatron/core/transformer/transformer_block.py, _checkpointed_forward."""
    deep = LLAMA | {"num_hidden_layers": 12}
    kept = [found(deep, recompute="full", recompute_method="uniform", recompute_num_layers=n).after_forward for n in (1, 2, 5)]
    size = 2048 * 1024 * 2
    assert [kept[0] - other for other in kept[1:]] == [6 * size, 9 * size]
    one = found(deep, recompute="full", recompute_method="uniform")
    assert one.peak == found(deep, recompute="full").peak
    all_at_once = found(deep, recompute="full", recompute_method="uniform", recompute_num_layers=12)
    assert all_at_once.peak_forward_backward <= found(deep).peak_forward_backward


PRECISION_AWARE = [  # bytes a parameter beside 16-bit weights; d = 8 (megatron/core/optimizer/optimizer_config.py)
    ({"main_grads_dtype": "bf16"}, 2 + (2 + 8) / 8),  # fp32 parameters: the 16 bits that bf16 lacks
    ({"exp_avg_dtype": "bf16", "exp_avg_sq_dtype": "bf16"}, 4 + (2 + 4) / 8),
    ({"exp_avg_dtype": "fp8", "exp_avg_sq_dtype": "fp16", "main_params_dtype": "fp16"}, 4 + (2 + 3) / 8),
]


@pytest.mark.parametrize(("settings", "each"), PRECISION_AWARE)
def test_the_precision_aware_optimizer(settings, each):
    step = found(gpus=8, zero=1, **settings)
    states = step.rank.sums["gpu"]["gradients"] + step.rank.sums["gpu"]["optimizer_states"]
    assert states == pytest.approx(each * step.trainable, rel=1e-6)


STEPS = [  # transformer_engine/pytorch/optimizers/fused_adam.py, step: fp32 copies of a group's states that are not fp32
    ("both averages", {"exp_avg_dtype": "bf16", "exp_avg_sq_dtype": "fp8"}, 8),
    ("and main parameters", {"exp_avg_dtype": "bf16", "exp_avg_sq_dtype": "bf16", "main_params_dtype": "fp16"}, 12),
    ("none", {"exp_avg_dtype": "fp32"}, 0),
]


@pytest.mark.parametrize(("name", "settings", "each"), STEPS, ids=[case[0] for case in STEPS])
def test_states_in_few_bits_are_fp32_at_the_step(name, settings, each):
    """Routed experts are a group of their own, and the larger one here."""
    step = found(MIXTURE, gpus=8, ep=8, zero=1, **settings).optimizer_step
    experts = 4 * 3 * 512 * 1024 * 32 // 8
    assert step.activations == each * experts


def test_a_fraction_of_the_states_is_offloaded():
    """megatron/core/optimizer/cpu_offloading/hybrid_optimizer.py."""
    shared = {"gpus": 8, "zero": 1, "offload": ("optimizer",)}
    half, whole = found(**shared, offload_fraction=0.5), found(**shared)
    assert half.rank.sums["host"]["optimizer_states"] * 2 == pytest.approx(whole.rank.sums["host"]["optimizer_states"], abs=8)
    assert half.rank.sums["gpu"]["optimizer_states"] == pytest.approx(half.rank.sums["host"]["optimizer_states"], abs=8)


SPLITS = [  # megatron/core/transformer/transformer_block.py, get_num_layers_to_build; layers of each virtual stage of 32
    ({"pp": 4}, ()),
    ({"pp": 4, "virtual_stages": 2}, (4,) * 8),
    ({"pp": 4, "first_stage_layers": 5, "last_stage_layers": 7}, (5, 10, 10, 7)),
    ({"pp": 4, "first_stage_layers": 4, "last_stage_layers": 8, "virtual_stages": 2}, (2, 5, 5, 4, 2, 5, 5, 4)),
    ({"pp": 3, "count_embedding": True}, (10, 11, 11)),
    ({"pp": 2, "count_embedding": True, "count_loss": True}, (16, 16)),
    ({"pp": 2, "pipeline_layout": "E,t*9|(t*8|)*2t*7L"}, (9, 8, 8, 7)),
    ({"pp": 4, "pipeline_layout": "E|t*16|t*16|L"}, (0, 16, 16, 0)),
]


@pytest.mark.parametrize(("settings", "split"), SPLITS)
def test_layers_of_stages(settings, split):
    p = Parallelism(gpus=settings["pp"] * 2, **settings)
    assert p.split_of(32) == split
    if split:
        deep = LLAMA | {"num_hidden_layers": 32}
        made = found(deep, gpus=p.gpus, **settings, grad_accum=8)
        assert [step.rank.stage.layers for step in made.stages] == [sum(split[i :: p.pp]) for i in range(p.pp)]


REFUSED = [
    ({"pp": 4, "first_stage_layers": 6}, "do not come out even"),
    ({"pp": 4, "count_loss": True, "last_stage_layers": 3}, "choose one"),
    ({"pp": 2, "pipeline_layout": "Et*9|t*8L"}, "17 layers, but the model has 32"),
    ({"pp": 2, "pipeline_layout": "Et|tmL"}, "3 layers, but the model has 32"),
    ({"pp": 2, "pipeline_layout": "tt|ttL"}, "a layout is E"),
    ({"pp": 4, "pipeline_layout": "Et|tL"}, "pp 4 does not divide"),
    ({"virtual_stages": 2}, "add pp"),
    ({"recompute_modules": ("moe",), "recompute": "selective"}, "no experts"),
    ({"recompute_modules": ("mlp",)}, "add recompute selective"),
    ({"recompute_num_layers": 2, "recompute": "full"}, "add recompute_method"),
    ({"exp_avg_dtype": "bf16"}, "add zero 1"),
    ({"offload_fraction": 0.5}, "add offload optimizer"),
]


@pytest.mark.parametrize(("settings", "text"), REFUSED)
def test_what_does_not_go_together_is_refused(settings, text):
    with pytest.raises(SpecError, match=text):
        found(LLAMA | {"num_hidden_layers": 32}, gpus=8, **settings).stages  # noqa: B018
