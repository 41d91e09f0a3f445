"""Evaluation between steps: forwards without gradients, whose logits the loop collects on the GPU.

As transformers' Trainer does (trainer.py, evaluation_loop and prediction_step; trainer_pt_utils.py, EvalLoopContainer): the
logits of all data-parallel ranks are gathered onto each, and joined to those of earlier passes by torch.cat, so that old and
new are there at once. Keys and values are cached, for the model's use_cache holds in evaluation.
"""

from collections.abc import Iterator

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size, Tensor
from memcalc.blocks.recording import exit_passed, layer_passed
from memcalc.estimates.lines import Line
from memcalc.estimates.training.layer_kinds import CACHE, Evaluation, Setup, cast_cache, recorded_kind, term_of
from memcalc.estimates.training.moments import MomentForm, Term

EVALUATION = "evaluation"


def evaluation_forms(setup: Setup, how: Evaluation, lines: tuple[Line, ...]) -> Iterator[MomentForm]:
    """The moments of one pass, the last whose logits stay. `lines`: what is gathered and stands in a forward."""
    profile = evaluating(setup.profile)
    head = exit_passed(setup.stage.exit, profile, setup.hidden)
    beside = [*_cached(setup), *_casts(setup)]
    logits = head.result
    if logits and how.ranks:
        each = 4 if how.wide else logits.itemsize
        one = Tensor("logits", logits.elements, each)
        kept = term_of("evaluation/", (one._replace(label="logits of earlier passes"),)).times((how.passes - 1) * how.ranks)
        beside.append(kept)
    base = MomentForm.of(EVALUATION, beside, lines)
    for layer in dict.fromkeys(setup.stage.sequence.kinds):
        for peak in layer_passed(layer, profile, setup.hidden).peaks:
            yield base.beside(Term.one("layer in its forward/tensors", peak))
    for peak in head.peaks:
        yield base.beside(Term.one("head in its forward/tensors", peak))
    if logits and how.ranks:
        yield from _collected(how, one, kept)


def evaluating(profile: Profile) -> Profile:
    """Without dropouts; and Liger's fused loss is of training alone (liger_kernel/transformers/model/llama.py, skip_logits)."""
    loss = "full" if profile.loss == "fused" else profile.loss
    return profile._replace(loss=loss, method=profile.method._replace(dropout=False))


def _collected(how: Evaluation, one: Tensor, kept: Term) -> Iterator[MomentForm]:
    """Logits of a pass as they are gathered, and as they are joined to those of earlier passes."""
    own = term_of("evaluation/", (one,))
    gathered = term_of("evaluation/", (one._replace(label="logits of all ranks"),)).times(how.ranks if how.ranks > 1 else 0)
    yield MomentForm.of("evaluation, logits gathered", (kept, own, gathered))
    if how.passes > 1:
        joined = term_of("evaluation/", (one._replace(label="logits joined"),)).times(how.passes * how.ranks)
        new = own if how.ranks == 1 else gathered
        yield MomentForm.of("evaluation, logits joined", (kept, new, joined))


def _cached(setup: Setup) -> Iterator[Term]:
    """Keys and values of all layers."""
    for index, count in enumerate(setup.stage.sequence.counts):
        yield term_of(CACHE, recorded_kind(setup, index).cached).times(count)


def _casts(setup: Setup) -> Iterator[Term]:
    """Autocast keeps its casts of all weights until the forward ends."""
    yield Term.one("layers/weight casts", Size(fixed=cast_cache(setup, all_layers=True)))
