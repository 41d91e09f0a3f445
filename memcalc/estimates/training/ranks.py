"""One pipeline stage's rank: its states and buffers as lines, its step as moments, whatever the batch and the length."""

from collections.abc import Iterable, Sequence

from memcalc.blocks.architecture import Architecture
from memcalc.caches import cached
from memcalc.errors import Unsupported
from memcalc.estimates.lines import COMPONENTS, Line, totals
from memcalc.estimates.placement import Stage, last_layers, split_of, stages
from memcalc.estimates.training.activations import Evaluated, evaluate, setup_of, shape, textbook, textbook_gathered
from memcalc.estimates.training.adapters import check_targets
from memcalc.estimates.training.choices import check_choices
from memcalc.estimates.training.layer_kinds import Setup
from memcalc.estimates.training.moments import Moment
from memcalc.estimates.training.rank_key import RankKey
from memcalc.estimates.training.sharding.strategy import REDUCING
from memcalc.estimates.training.states import (
    ALWAYS,
    ShardGroup,
    StateSetting,
    around_layer,
    buckets,
    buffer_lines,
    gradient_lines,
    make_groups,
    make_setting,
    setting_of,
    state_lines,
)
from memcalc.estimates.training.step_lines import optimizer_lines, step_copies
from memcalc.estimates.training.timeline import Forms, forms
from memcalc.frozen import NamedTuple
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

RECORDED = (
    "keep_output",
    "use_cache",
    "eval_batch",
    "tiled_mlp",
    "images",
)  # settings that the textbook's formula does not know


class Rank(NamedTuple):
    """One pipeline stage's rank: all that depends on neither batch nor length, but for facts of its profile."""

    stage: Stage
    setting: StateSetting
    groups: tuple[ShardGroup, ...]
    lines: tuple[Line, ...]  # states, and the strategy's buffers, each at its largest
    sums: dict[str, dict[str, int]]
    steady: tuple[Line, ...]  # parameters and optimizer states on the GPU
    gradients: tuple[Line, ...]  # of a whole step, on the GPU
    step: tuple[Line, ...]  # alive at the optimizer's step beside the steady states
    optimizer: Moment
    setup: Setup | None = None  # None: a bare parameter count
    forms: Forms | None = None  # None: a block cannot record, so the textbook stands in
    approximation: str = ""


class Standing(NamedTuple):
    """What of a rank a step's time depends on: its states and how it runs, without its moments."""

    setting: StateSetting
    groups: tuple[ShardGroup, ...]
    sums: dict[str, dict[str, int]]  # by place and component; of communication nothing
    setup: Setup


def standing(architecture: Architecture, setting: StateSetting, stage: Stage) -> Standing:
    """A rank between steps: a tenth of the work of `rank_of`."""
    groups = make_groups(setting, stage)
    lines = [entry for group in groups for entry in state_lines(setting, group)]
    sums = totals([*lines, *buffer_lines(setting, stage)], COMPONENTS)
    return Standing(setting, tuple(groups), sums, setup_of(architecture, setting, stage, groups))


def rank_of(architecture: Architecture, setting: StateSetting, stage: Stage) -> Rank:
    """A rank with its step recorded; where a block cannot record yet, the textbook stands in."""
    groups = make_groups(setting, stage)
    setup = setup_of(architecture, setting, stage, groups)
    try:
        recorded = forms(setup)
    except Unsupported as error:
        if names := [name for name in RECORDED if getattr(setting.run, name)]:
            raise SpecError(f"needs what this model's layers keep tensor by tensor: {error}", *names) from None
        reason = f"{error}: activations are the textbook formula of Korthikanti et al. 2022, an approximation"
        buffers = (*setup.buckets, *textbook_gathered(setup))
        return _rank(setting, stage, groups, buffers)._replace(setup=setup, approximation=reason)
    return _rank(setting, stage, groups, largest(recorded))._replace(setup=setup, forms=recorded)


def largest(recorded: Forms) -> tuple[Line, ...]:
    """The strategy's buckets and gathered parameters, each at its largest (gradients being reduced: in moments alone)."""
    found: dict[str, Line] = {}
    for form in recorded.moments:
        for entry in form.lines:
            if entry.component == "communication" and entry.name != REDUCING:
                found[entry.name] = max(found.get(entry.name, entry), entry, key=lambda made: made.bytes)
    return tuple(found.values())


def rank_of_count(setting: StateSetting, stage: Stage) -> Rank:
    """A rank of nothing but a parameter count."""
    groups = make_groups(setting, stage)
    elements = sum(group.elements for group in groups)
    gathered = setting.strategy.unknown_layers(around_layer(setting, groups), elements)
    return _rank(setting, stage, groups, (*buckets(setting, groups, stage), *gathered))


def _rank(setting: StateSetting, stage: Stage, groups: list[ShardGroup], buffers: Iterable[Line]) -> Rank:
    lines = [entry for group in groups for entry in state_lines(setting, group)]
    lines += (*buffer_lines(setting, stage), *buffers)
    steady = tuple(entry for entry in lines if entry.place == "gpu" and entry.component in ("parameters", "optimizer_states"))
    gradients = tuple(entry for entry in lines if entry.place == "gpu" and entry.component == "gradients")
    standing = (entry for entry in buckets(setting, groups, stage) if entry.phase == ALWAYS)
    left = gradients
    if setting.run.defers_gradients:  # reduced, at last
        made = (entry for group in groups for entry in gradient_lines(setting_of(setting, group), group))
        left = tuple(entry for entry in made if entry.place == "gpu" and entry.bytes)
    step = (*optimizer_lines(setting, groups), *step_copies(setting, groups), *left, *standing)
    sums = totals(lines, COMPONENTS)
    return Rank(stage, setting, tuple(groups), tuple(lines), sums, steady, gradients, step, Moment.of("optimizer step", step))


def evaluated(architecture: Architecture, run: Training, rank: Rank) -> Evaluated:
    """A rank's step with batch and length filled in."""
    assert rank.setup is not None
    if rank.forms is None:
        return textbook(architecture, run, rank.setting, rank.stage, rank.setup, rank.gradients)
    return evaluate(architecture, run, rank.setup, rank.forms, rank.gradients)


def distinct_standing(architecture: Architecture, run: Training) -> tuple[Standing, ...]:
    """The same between steps."""
    setting, found = distinct_stages(architecture, run)
    return tuple(standing(architecture, setting, stage) for stage in found)


def distinct_stages(architecture: Architecture, run: Training) -> tuple[StateSetting, Sequence[Stage]]:
    """Of a run that model and layout allow."""
    p, sizes = run.parallelism, shape(architecture)
    p.check_model(heads=sizes.heads, layers=sizes.layers, experts=sizes.experts)
    if run.adapts and "lora_targets" in run.model_fields_set:
        check_targets(architecture, run.lora_targets, run.expert_adapters_used != "none")
    setting = make_setting(run)
    found = stages(architecture, p.tp, p.pp, p.ep, p.etp, split_of(architecture, p))
    check_choices(architecture, run, max(stage.layers for stage in found))
    if run.train_layers:
        found = (last_layers(architecture, found[0], (p.tp, p.ep, p.etp), run.train_layers),)
    return setting, found


@cached(2048)
def distinct_ranks(shared: RankKey) -> tuple[Rank, ...]:
    """One rank for every distinct pipeline stage."""
    setting, found = distinct_stages(shared.architecture, shared.run)
    return tuple(rank_of(shared.architecture, setting, stage) for stage in found)
