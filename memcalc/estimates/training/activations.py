"""Activations of one rank: recorded from the ledger of saved tensors, or the textbook where a block cannot record yet."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from memcalc.autograd.profile import Profile
from memcalc.blocks.architecture import Architecture
from memcalc.blocks.head import Head
from memcalc.caches import cached
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage, main_parts
from memcalc.estimates.training.itemised import Sizes, activation_lines, leaf_line, position_line, vector_line
from memcalc.estimates.training.layer_kinds import Evaluation, Setup, TowerStep
from memcalc.estimates.training.moments import Moment, MomentForm
from memcalc.estimates.training.profiles import feeds_gradient, input_leaf, position_pairs, profile_of, shared_tensors
from memcalc.estimates.training.sequence import Pattern
from memcalc.estimates.training.states import ShardGroup, StateSetting, around_layer, buckets
from memcalc.estimates.training.timeline import Forms
from memcalc.formulas import activations
from memcalc.formulas.formula import ceil_div
from memcalc.frozen import NamedTuple
from memcalc.specs.training import Training

PHASE = "forward and backward"


class Evaluated(Protocol):
    """A rank's step with batch and length filled in; bytes."""

    @property
    def candidates(self) -> tuple[Moment, ...]:
        """The moments that can be the peak."""
        ...

    @property
    def after_forward(self) -> Moment: ...

    @property
    def host(self) -> int:
        """Activations that wait in host memory."""
        ...

    @property
    def left_over(self) -> int:
        """Activations that are still there at the optimizer's step."""
        ...

    def moments(self) -> tuple[Moment, ...]:
        """All moments, for a report; the end of the forward first."""
        ...

    def lines(self, which: int, *, parts: bool = False) -> tuple[Line, ...]:
        """What moment number so many consists of, beside the steady states; with `parts`, down to tensors."""
        ...

    def lines_left_over(self) -> tuple[Line, ...]: ...


class Filled(NamedTuple):
    """A step that was recorded onto tapes."""

    forms: Forms
    sizes: Sizes
    carried: tuple[Line, ...]  # gradients that stand throughout
    standing: int  # their bytes
    masks: int  # bytes of what all recomputed layers refer to for pairs of positions
    leaf: int  # bytes of PEFT's input leaf and its gradient
    vectors: int = 0  # bytes of a whole batch's embeddings and their gradients, where these are cached
    candidates: tuple[Moment, ...] = ()
    eval_sizes: Sizes | None = None
    main_gradients: bool = False  # what stands throughout is an engine's buffer, not gradients of earlier micro-batches

    @property
    def after_forward(self) -> Moment:
        return self._filled(self.forms.moments[:1])[0]

    @property
    def host(self) -> int:
        return int(self.sizes.bytes_of(self.forms.host))

    @property
    def left_over(self) -> int:
        """PEFT's input leaf, of this step and the one before."""
        return 2 * self.leaf

    def _filled(self, forms: tuple[MomentForm, ...]) -> tuple[Moment, ...]:
        return filled(forms, self.sizes, self.masks + self.vectors, self.standing)

    def evaluation(self) -> tuple[Moment, ...]:
        """What an evaluation holds; of gradients nothing but an engine's main buffer is there."""
        if self.eval_sizes is None:
            return ()
        evaluating = self._replace(sizes=self.eval_sizes, masks=0, standing=self.standing if self.main_gradients else 0)
        return evaluating._filled(self.forms.evaluation)

    def moments(self) -> tuple[Moment, ...]:
        return (*self._filled(self.forms.moments), *self.evaluation())

    def lines(self, which: int, *, parts: bool = False) -> tuple[Line, ...]:
        if self.eval_sizes and which >= len(self.forms.moments):
            form = self.forms.evaluation[which - len(self.forms.moments)]
            carried = self.carried if self.main_gradients else ()
            return (*activation_lines(form, self.eval_sizes, parts=parts), *carried, *form.lines)
        form = self.forms.moments[which]
        masks = (position_line(self.masks),) if self.masks else ()
        vectors = (vector_line(self.vectors),) if self.vectors else ()
        return (*activation_lines(form, self.sizes, parts=parts), *masks, *vectors, *self.carried, *form.lines)

    def lines_left_over(self) -> tuple[Line, ...]:
        return (leaf_line(self.leaf, 2),) if self.leaf else ()


def filled(forms: tuple[MomentForm, ...], sizes: Sizes, beside: int, standing: int) -> tuple[Moment, ...]:
    """Moments of a batch and a length; `beside` and `standing`: bytes of activations and of gradients that all of them have."""
    _, tokens, pairs, here = sizes
    return tuple(
        Moment(name, int(a[0] * tokens + a[1] * pairs + a[2] + a[3] * here) + beside, gradients + standing, communication)
        for name, a, gradients, communication, _, _ in forms
    )


class Given(NamedTuple):
    """A step whose moments are lists of lines; the first is the end of the forward."""

    given: tuple[tuple[str, tuple[Line, ...]], ...]
    candidates: tuple[Moment, ...]
    host: int = 0
    left_over: int = 0

    @classmethod
    def of(cls, *given: tuple[str, tuple[Line, ...]]) -> "Given":
        return cls(given, tuple(Moment.of(name, lines) for name, lines in given))

    @property
    def after_forward(self) -> Moment:
        return self.candidates[0]

    def moments(self) -> tuple[Moment, ...]:
        return self.candidates

    def lines(self, which: int, *, parts: bool = False) -> tuple[Line, ...]:
        return self.given[which][1]

    def lines_left_over(self) -> tuple[Line, ...]:
        return ()


def setup_of(architecture: Architecture, setting: StateSetting, stage: Stage, groups: Sequence[ShardGroup]) -> Setup:
    """One rank's step in the timeline's terms."""
    run, p = setting.run, setting.run.parallelism
    profile = profile_of(run, architecture)
    trained = profile.method.trained and not run.adapts and not profile.method.frozen_embeddings and not run.train_layers
    tied = architecture.tied and bool(stage.entry) and bool(stage.exit) and trained
    vocabulary = ceil_div(architecture.predicted, p.tp)
    width = next((block.size for _, block in stage.exit if isinstance(block, Head)), architecture.hidden)
    # gradients of earlier micro-batches stand throughout; so does a buffer of the engine or the strategy for all of them
    standing = run.grad_accum > 1 or run.engine_row.fp32_gradients or setting.strategy.gradients_stand
    standing = standing or run.cached_batch is not None
    tower = _tower(architecture, run, profile, keep=not standing) if stage.entry else None
    input_grad = feeds_gradient(run, stage, profile) or bool(tower and tower.flows)
    return Setup(
        _marked(stage, recomputed(run), input_grad, stage.layers - run.train_layers if run.train_layers else 0),
        profile,
        architecture.hidden,
        run.recompute == "selective" and run.engine_row.by_operation,
        "activations" in run.offload,
        standing,
        micro_batches_in_flight(run, stage.index),
        around_layer(setting, groups),
        buckets(setting, groups, stage),
        vocabulary * width * profile.formats.weights if tied else 0,
        shared_tensors(architecture, run, profile, scores=any(block.scores for _, block in stage.exit)),
        input_grad,
        run.engine_row.holds_inputs and setting.strategy.wraps_layers and run.adapts and run.recompute == "full",
        run.chunk,
        run.gradients_leave,
        Evaluation.of(run),
        tower,
        run.defers_gradients,
        setting.gradients / profile.formats.weights if run.grad_accum_dtype else 1.0,
        last_layers=run.train_layers is not None,
        behind=(run.seq_len / (run.seq_len_max or run.seq_len)) if run.engine_row.holds_graph else 0.0,
    )


def _tower(architecture: Architecture, run: Training, profile: Profile, *, keep: bool) -> TowerStep | None:
    """A vision tower's part in the step; its modules are imported where a run has images."""
    if not run.images:
        return None
    from memcalc.estimates.training.towers import tower_step

    return tower_step(architecture, run, profile, keep=keep)


@cached(1024)
def _marked(stage: Stage, pattern: Pattern, input_grad: bool, frozen: int) -> Stage:
    """A stage whose layers are told apart by whether they are recomputed: one for all runs, so that they share its forms."""
    return replace(stage, sequence=stage.sequence.marked(pattern, input_grad=input_grad, frozen=frozen))


def recomputed(run: Training) -> Pattern:
    """Which layers of a stage a run recomputes whole."""
    if run.recompute != "full":
        return Pattern()
    return Pattern(every=run.recompute_every or 1, first=run.first_layers)


def evaluate(architecture: Architecture, run: Training, setup: Setup, recorded: Forms, gradients: tuple[Line, ...]) -> Filled:
    """Fill batch and length into the forms; `gradients` are those of a whole step."""
    sizes = Sizes.of_run(run)
    carried = gradients if setup.standing else ()
    masks = int(position_pairs(architecture, run, setup.profile) * sizes.positions * run.row_length)
    leaf = input_leaf(architecture, run, setup.profile) * sizes.tokens
    vectors = 2 * run.sequences * architecture.hidden * setup.profile.formats.residual if run.cached_batch else 0
    standing = sum(entry.bytes for entry in carried)
    candidates = filled(recorded.candidates, sizes, masks + vectors, standing)
    step = Filled(recorded, sizes, carried, standing, masks, leaf, vectors, candidates)
    if not run.eval_batch:
        return step
    own = setup.standing and (run.engine_row.fp32_gradients or run.parallelism.zero == 3)
    evaluated = Sizes.of(run.eval_batch, run.seq_len_max or run.seq_len, run.parallelism.cp)
    step = step._replace(eval_sizes=evaluated, main_gradients=own)
    return step._replace(candidates=(*candidates, *step.evaluation()))


def textbook(
    architecture: Architecture, run: Training, setting: StateSetting, stage: Stage, setup: Setup, gradients: tuple[Line, ...]
) -> Given:
    """The formula of Korthikanti et al. 2022 for models with blocks that cannot record yet: an approximation."""
    p, each = run.parallelism, setting.compute
    tokens, hidden = run.tokens // p.cp, architecture.hidden
    split = p.tp if p.sequence_parallel else 1
    layer = {
        "tokens": tokens, "hidden": hidden, "heads": shape(architecture).heads, "seq_len": run.row_length, "tp": p.tp,
        "split": split, "scores": int(run.attention == "eager" and run.recompute == "none"), "bytes_each": each,
    }  # fmt: skip
    again = recomputed(run).before(stage.layers)
    saved = line("activations", "layers (textbook)", PHASE, activations.textbook_activation_bytes,
                 per_layer=activations.layer_activation_bytes(**layer), layers=int((stage.layers - again) * setup.in_flight),
                 per_input=activations.recomputed_layer_bytes(tokens=tokens, hidden=hidden, split=split, bytes_each=each),
                 recomputed=int(again * setup.in_flight))  # fmt: skip
    working = line("activations", "layer in its backward (textbook)", PHASE, activations.layer_activation_bytes, "gpu",
                   **layer | {"scores": int(run.attention == "eager")})  # fmt: skip
    logits = line("activations", "logits (textbook)", PHASE, activations.textbook_logit_bytes, tokens=tokens,
                  vocabulary=architecture.predicted, tp=p.tp)  # fmt: skip
    gathered = textbook_gathered(setup)
    carried = gradients if setup.standing else ()
    return Given.of(
        ("after forward", (saved, *carried, *setup.buckets, *(gathered if setup.around.keeps else ()))),
        ("gradient of the loss", (saved, *((logits,) if stage.last else ()), *carried, *setup.buckets, *gathered)),
        ("backward of the first layer", (*((working,) if again else ()), *gradients, *setup.buckets, *gathered)),
    )


def textbook_gathered(setup: Setup) -> tuple[Line, ...]:
    """Parameters that are whole at once: what ZeRO 3 fetches, two layers' and the root's, or all where they are kept."""
    stage, around = setup.stage, setup.around
    sequence = stage.sequence
    layers = sum(size * n for size, n in zip(sequence.elements, sequence.counts, strict=True))
    if around.gathers and around.live is not None:
        return (around.fetched(max(stage.closing, stage.largest_layer), stage.root + layers),)
    if around.gathers:
        return (around.gathered(stage.root, stage.largest_layer, 2),)
    return (around.gathered(stage.root, layers),) if around.keeps else ()


def rule_of_thumb(parameters: int, setting: StateSetting, gradients: tuple[Line, ...], buffers: tuple[Line, ...]) -> Given:
    """Activations of a bare parameter count."""
    made = line("activations", "rule of thumb", PHASE, activations.rule_of_thumb_activation_bytes,
                parameters=parameters, bytes_per_parameter=2 * setting.compute)  # fmt: skip
    return Given.of(
        ("after forward", (made, *(gradients if setting.run.grad_accum > 1 else ()), *buffers)),
        ("forward and backward", (made, *gradients, *buffers)),
    )


def micro_batches_in_flight(run: Training, stage: int) -> float:
    """Micro-batches whose activations a pipeline stage holds at once.

    gpipe: all of them. 1f1b and zero-bubble: as many as there are stages from here on (Narayanan et al. 2021, section
    2.2.1; ZB-H1 of Qi et al. 2023 keeps 1F1B's memory). interleaved: (2 (p − s − 1) + (v − 1) p + 1) / v of chunks that are
    1/v of the stage (Megatron-LM, schedules.py, num_warmup_microbatches).
    """
    p, accumulated = run.parallelism.pp, run.grad_accum
    if p == 1:
        return 1
    if run.parallelism.pipeline_schedule == "gpipe":
        return accumulated
    if (v := run.parallelism.chunks) > 1:
        return min(2 * (p - stage - 1) + (v - 1) * p + 1, accumulated * v) / v
    return min(p - stage, accumulated)


class ModelShape(NamedTuple):
    """The few sizes that the textbook formulas ask for."""

    heads: int
    layers: int
    experts: int


@cached(256)
def shape(architecture: Architecture) -> ModelShape:
    heads = layers = experts = 0
    for part in main_parts(architecture):
        for stack in part.stacks:
            layers += stack.depth
            for layer in stack.layers:
                for _, block in layer.blocks:
                    heads = heads or block.traits.heads
                    experts = experts or block.traits.experts
    return ModelShape(heads, layers or 1, experts)
