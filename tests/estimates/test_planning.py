"""Plans: bounds that never exclude what fits, layouts that `train` agrees with, constraints that are named."""

import random

import pytest

from memcalc import plan_training, size_training
from memcalc.errors import MemcalcError
from memcalc.estimates.planning.accepts import ENGINES
from memcalc.estimates.planning.bounds import counted, least_seconds, least_states, state_bytes
from memcalc.estimates.planning.plan import efficient
from memcalc.estimates.planning.search import settings_of
from memcalc.estimates.planning.space import Question, layouts, why_none
from memcalc.estimates.step_time.step import micro_batch_seconds, step_time
from memcalc.estimates.training.activations import shape
from memcalc.estimates.training.estimate import estimate
from memcalc.readers.timing import time_law
from memcalc.sizing.subjects import as_accelerator, as_model
from memcalc.sizing.training import training_run


def question(model: str, engine: str, gpus: int, batch: int, **pinned: object) -> Question:
    architecture = as_model(model).architecture
    assert architecture
    sizes = shape(architecture)
    return Question(engine, gpus, 8, sizes.heads, sizes.layers, 0, sizes.experts, 4096, batch, pinned, {})


def some(asked: Question, count: int) -> list:
    every = list(layouts(asked))
    return random.Random(7).sample(every, min(count, len(every)))


CASES = [("llama-3.1-8b", "torch", 16, 64), ("llama-3.1-8b", "megatron", 32, 128), ("qwen3-30b-a3b", "megatron", 16, 64),
         ("llama-3.1-8b", "deepspeed", 8, 32), ("qwen3-30b-a3b", "torchtitan", 16, 32)]  # fmt: skip


@pytest.mark.parametrize(("model", "engine", "gpus", "batch"), CASES)
def test_bounds_are_never_above_what_they_bound(model: str, engine: str, gpus: int, batch: int) -> None:
    """Else a search would throw away layouts that fit, or that are the fastest."""
    architecture, accelerator = as_model(model).architecture, as_accelerator("h100")
    assert architecture
    assert accelerator
    asked, law, looked = question(model, engine, gpus, batch), time_law(accelerator), 0
    for layout in some(asked, 40):
        place, accepts = layout.place, ENGINES[engine]
        try:
            run = training_run(architecture, None, seq_len=4096, **settings_of(layout))
            needed = estimate(architecture, run).floor("device")
            seconds = step_time(architecture, run, law).seconds
        except MemcalcError:
            continue
        states = least_states(counted(architecture), state_bytes(run), place, accepts.shardings[place.sharding], 8)
        assert states <= needed
        ranks = max(place.tp * place.cp, place.ep * place.etp)
        if ranks % (place.tp * place.cp) == 0 and ranks % (place.ep * place.etp) == 0:
            names = ("tp", "cp", "ep", "etp", "sequence_parallel", "cp_kind", "micro_batch", "recompute", "engine")
            alone = {name: value for name, value in settings_of(layout).items() if name in names}
            one = micro_batch_seconds(architecture, training_run(architecture, None, seq_len=4096, gpus=ranks, **alone), law)
            assert least_seconds(one, place, layout.grad_accum) <= seconds * 1.0001
        looked += 1
    assert looked >= 15


@pytest.mark.parametrize(("model", "engine", "gpus", "batch"), CASES)
def test_every_layout_makes_the_same_global_batch_on_the_same_gpus(model: str, engine: str, gpus: int, batch: int) -> None:
    for layout in some(question(model, engine, gpus, batch), 200):
        assert layout.micro_batch * layout.grad_accum * layout.place.copies == batch
        assert layout.place.gpus == gpus


def test_a_listed_layout_has_the_figures_that_train_gives_it() -> None:
    plan = plan_training("llama-3.1-8b", "h100", 8, seq_len=4096, global_batch=32).plan
    assert len(plan.ranked) >= 3
    for row in plan.ranked:
        answer = size_training("llama-3.1-8b", "h100", **row.settings)
        assert (answer.peak, answer.verdict) == (row.peak, row.fit.verdict)
        assert answer.run.parallelism.gpus == 8


def test_the_best_is_the_best_of_all_that_fit() -> None:
    """Against every layout of a small space, looked at one by one."""
    architecture, accelerator = as_model("llama-3.2-1b").architecture, as_accelerator("rtx-4090")
    assert architecture
    assert accelerator
    law, found = time_law(accelerator), {}
    asked = question("llama-3.2-1b", "torch", 4, 16)
    for layout in layouts(asked):
        try:
            answer = size_training("llama-3.2-1b", "rtx-4090", seq_len=4096, **settings_of(layout))
            if answer.fits:
                found[layout] = step_time(architecture, answer.run, law).seconds
        except MemcalcError:
            continue
    best = plan_training("llama-3.2-1b", "rtx-4090", 4, seq_len=4096, global_batch=16).plan.ranked[0]
    assert min(found.values()) <= best.time.seconds <= 1.01 * min(found.values())


def test_without_a_number_of_gpus_as_few_as_do_it() -> None:
    plan = plan_training("llama-3.1-8b", "h100", seq_len=4096).plan
    gpus = plan.ranked[0].settings["gpus"]
    assert gpus > 1
    assert not plan_training("llama-3.1-8b", "h100", gpus // 2, seq_len=4096).plan.ranked


def test_goals_leave_out_what_does_not_keep_them() -> None:
    every = plan_training("llama-3.1-8b", "h100", "8-32", seq_len=4096, tokens=10**11).plan.ranked
    days = max(row.days for row in every if row.days)
    quick = plan_training("llama-3.1-8b", "h100", "8-32", seq_len=4096, tokens=10**11, deadline=days / 2).plan
    assert quick.ranked
    assert all(row.days is not None and row.days <= days / 2 for row in quick.ranked)
    late = plan_training("llama-3.1-8b", "h100", 8, seq_len=4096, tokens=10**11, deadline=0.01).plan
    assert not late.ranked
    assert "the fastest layout that fits takes" in late.note


def test_too_little_money_is_told_by_the_cheapest_layout() -> None:
    """On whatever number of GPUs; more are not tried once they cost more."""
    plan = plan_training("llama-3.1-8b", "h100", seq_len=4096, tokens=10**10, budget=100).plan
    cheapest = float(plan.note.split("costs ")[1].split(" USD")[0].replace(",", ""))
    assert plan.note.startswith("the cheapest layout that fits takes")
    assert not plan.ranked
    enough = plan_training("llama-3.1-8b", "h100", seq_len=4096, tokens=10**10, budget=cheapest + 1).plan
    assert enough.ranked
    assert enough.ranked[0].cost == pytest.approx(cheapest, abs=1)


def test_settings_that_are_given_stay() -> None:
    for row in plan_training("llama-3.1-8b", "h100", 16, tp=2, recompute="full", seq_len=4096).plan.ranked:
        assert row.settings["tp"] == 2
        assert row.settings["recompute"] == "full"


def test_what_is_varied_is_tried() -> None:
    plan = plan_training("llama-3.1-8b", "h100", 8, seq_len=4096, vary={"optimizer": ("adamw", "adamw-8bit")}).plan
    assert {row.settings["optimizer"] for row in plan.ranked} == {"adamw", "adamw-8bit"}


def test_nothing_fits_says_what_comes_nearest() -> None:
    plan = plan_training("llama-3.1-70b", "rtx-4090", 2).plan
    assert not plan.ranked
    assert plan.nearest is not None
    assert plan.nearest.fit.headroom < 0


@pytest.mark.parametrize(
    ("gpus", "batch", "pinned", "said"),
    [
        (13, 100, {}, "use 104"),
        (12, 64, {"tp": 8}, "tp × pp × cp = 8 does not divide 12 GPUs: use 8"),
    ],
)
def test_the_constraint_that_binds_is_named(gpus: int, batch: int, pinned: dict[str, int], said: str) -> None:
    assert said in why_none(question("llama-3.1-8b", "torch", gpus, batch, **pinned))


def test_more_gpus_never_make_a_plan_slower() -> None:
    seconds = [plan_training("llama-3.1-8b", "h100", gpus, seq_len=4096, global_batch=64).plan.ranked[0].time.seconds
               for gpus in (8, 16, 32)]  # fmt: skip
    assert seconds == sorted(seconds, reverse=True)


def test_efficient_offers() -> None:
    assert efficient([(1, 1), (1, 1), (2, 0.5), (3, 0.7)]) == [True, True, True, False]


SETTINGS = [
    {"freeze": ("embeddings",)}, {"train_layers": 4}, {"optimizer": "adamw-8bit"}, {"method": "qlora"}, {"precision": "bf16"},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_states_bound_whatever_is_trained(settings: dict[str, object]) -> None:
    architecture = as_model("llama-3.1-8b").architecture
    assert architecture
    for layout in some(question("llama-3.1-8b", "torch", 8, 32), 12):
        try:
            run = training_run(architecture, None, seq_len=4096, **settings_of(layout), **settings)
            needed = estimate(architecture, run).floor("device")
        except MemcalcError:
            continue
        sharding = ENGINES["torch"].shardings[layout.place.sharding]
        assert least_states(counted(architecture), state_bytes(run), layout.place, sharding, 8) <= needed


@pytest.mark.parametrize(("gpus_per_node", "shard_size"), [(32, None), (4, None), (8, 16)])
def test_hybrid_sharding_over_other_nodes_is_not_thrown_away(gpus_per_node: int, shard_size: int | None) -> None:
    """Its states are cut over a node, however large: a bound for nodes of eight would be too high."""
    size = {} if shard_size is None else {"shard_size": shard_size}
    plan = plan_training("llama-3.1-70b", "h200", 64, seq_len=4096, fsdp="hybrid", gpus_per_node=gpus_per_node, tp=1, cp=1,
                         recompute="full", optimizer="adamw-8bit", **size).plan  # fmt: skip
    fits = size_training("llama-3.1-70b", "h200", gpus=64, seq_len=4096, fsdp="hybrid", gpus_per_node=gpus_per_node,
                         recompute="full", optimizer="adamw-8bit", **size).fits  # fmt: skip
    assert bool(plan.ranked) == fits


def test_a_zero_bubble_pipeline_is_bounded_by_its_own_bubble() -> None:
    given = {"engine": "megatron", "pp": 4, "pipeline_schedule": "zero-bubble", "global_batch": 32, "seq_len": 4096}
    plan = plan_training("llama-3.1-8b", "h100", 16, **given).plan
    assert plan.ranked
    assert all(row.settings["pipeline_schedule"] == "zero-bubble" for row in plan.ranked)
    assert all("virtual_stages" not in row.settings for row in plan.ranked)


def test_what_is_given_goes_before_the_layouts_own() -> None:
    rows = plan_training("llama-3.1-8b", "h100", 8, tp=2, sequence_parallel=False, seq_len=4096).plan.ranked
    assert rows
    assert not any(row.settings["sequence_parallel"] for row in rows)


def test_passes_a_step_are_tried_as_said() -> None:
    rows = plan_training("llama-3.1-8b", "h100", 8, seq_len=4096, global_batch=64, vary={"grad_accum": (2, 4)}).plan.ranked
    assert {row.settings["grad_accum"] for row in rows} <= {2, 4}


@pytest.mark.parametrize(("layers", "predicting", "stages"), [(61, 0, 16), (61, 1, 8), (126, 0, 36), (7, 0, 3)])
def test_layouts_of_uneven_stages_hold_every_layer(layers: int, predicting: int, stages: int) -> None:
    from memcalc.estimates.planning.space import layout_of
    from memcalc.specs.pipeline import layers_of_layout, predicting_of_layout

    layout = layout_of(layers, predicting, stages)
    shares = layers_of_layout(layout)
    assert len(shares) == stages
    assert sum(shares) == layers + predicting
    assert predicting_of_layout(layout) == predicting
    assert max(shares) - min(shares[1:-1] or shares) <= 1


def test_a_prime_number_of_layers_is_shared_over_any_number_of_stages() -> None:
    """DeepSeek V3 has 61 layers; recipes put them on 16 stages (Megatron-Bridge, deepseek_workload_base_configs.py)."""
    settings = {"seq_len": 4096, "global_batch": 2048, "precision": "fp8-mixed", "tp": 1, "pp": 16, "cp": 1, "ep": 8}
    found = plan_training("deepseek-v3", "b200", 256, engine="megatron", **settings)
    assert found.best
    assert found.best.settings["pipeline_layout"].count("|") + 1 in (16, 32, 48)
    assert "--pipeline-layout" in found.best.command
