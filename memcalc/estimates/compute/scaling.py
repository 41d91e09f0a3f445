"""What the scaling laws answer: the optimum under each, how far a model is from it, and what serving or repeating changes."""

from collections.abc import Sequence
from decimal import Decimal

from memcalc.formulas.compute import dense_training_flops
from memcalc.formulas.granular_experts import GranularExperts
from memcalc.formulas.inference_aware import Lifetime, inference_aware, lifetime_flops
from memcalc.formulas.law_forms import Parametric, Point
from memcalc.formulas.repeated_data import TOKEN_DECAY, Repeated, effective_amount
from memcalc.formulas.scaling_laws import DEFAULT, Law, data_limited, law
from memcalc.frozen import NamedTuple
from memcalc.specs.hardware import Accelerator
from memcalc.specs.scaling import ScalingQuestion, check_flops
from memcalc.specs.spec import SpecError
from memcalc.units import PF_DAY, format_count

DEFAULT_MFU = 0.4  # between the 0.38 and 0.43 of Llama 3 405B: Llama Team 2024, table 4
MANY_EPOCHS = 4  # up to here repeated tokens are nearly as good as fresh ones: Muennighoff et al. 2023, abstract


class LawOptimum(NamedTuple):
    """What one law answers, and where that leaves the ground it was fitted on."""

    law: Law
    point: Point
    outside: tuple[str, ...]


class Judgement(NamedTuple):
    """A given model under one law."""

    law: Law
    optimal_tokens: float  # for its size
    over_training: float  # its tokens over those
    loss: float | None
    loss_left: float | None  # above the optimum of the same compute
    equivalent_flops: float | None  # the least compute that reaches the same loss


class LifetimeOptimum(NamedTuple):
    """A run that will serve tokens, and the one of the same loss that costs least with serving."""

    tokens: int
    start: Point
    start_flops: float  # to train and serve it
    best: Lifetime


class Repetition(NamedTuple):
    """A run on a limited stock of tokens, after Muennighoff et al."""

    unique: int
    tokens: float
    epochs: float
    effective_tokens: float
    most_effective_tokens: float  # however often the stock is repeated
    best: Point  # of the same compute
    best_effective_tokens: float

    @property
    def best_epochs(self) -> float:
        return self.best.tokens / self.unique


class Curves(NamedTuple):
    """Lines of (x, loss) under one law; the points on them are named in `optimum` and `given`."""

    law: Law
    iso_flop: list[tuple[float, float]]  # against parameters, at the budget
    frontier: list[tuple[float, float]]  # of the optimum, against FLOP
    optimum: Point
    given: Point | None


class ScalingAnswer(NamedTuple):
    """The optima under the laws that were asked for, and what they say of a model, of serving and of repeated data."""

    flops: int | None  # the budget; None where it differs by law
    optima: tuple[LawOptimum, ...]
    chosen: LawOptimum
    given: Point | None  # the model to judge
    judgements: tuple[Judgement, ...]
    served: LifetimeOptimum | None
    repetition: Repetition | None
    curves: Curves
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]


def estimate(question: ScalingQuestion, gpu: Accelerator | None = None, parameters: int | None = None) -> ScalingAnswer:
    """Answer a question; `gpu` and `parameters` are those of the accelerator and the model that it names."""
    size = question.params if parameters is None else parameters
    if size is not None and parameters is not None:
        _check_size(size)
    flops, assumptions = _budget(question, gpu, size)
    laws = question.laws
    if question.unique_tokens:
        laws = tuple(data_limited(row, question.unique_tokens) for row in laws)
    optima = tuple(_optimum(row, flops, size, question.tokens) for row in laws)
    wanted = question.law[0] if question.law else DEFAULT
    chosen = next(found for found in optima if found.law.name == wanted)
    given = _given(chosen.law, size, question.tokens)
    budget = flops if flops is not None else chosen.point.flops
    judged = tuple(_judge(row, given, budget) for row in laws if given and not _is_mixture(row))
    served = _serve(chosen, given, question.inference_tokens)
    repetition = _repeat(question.unique_tokens, given or chosen.point, budget) if question.unique_tokens else None
    return ScalingAnswer(
        flops,
        optima,
        chosen,
        given,
        judged,
        served,
        repetition,
        _curves(chosen.law, chosen.point, budget, given),
        (*assumptions, *_assumptions(optima, served)),
        (*_extrapolations(optima), *_repetition_warnings(repetition)),
    )


def _budget(question: ScalingQuestion, gpu: Accelerator | None, size: int | None) -> tuple[int | None, list[str]]:
    """The budget [FLOP], where one is given or follows from parameters and tokens."""
    if question.flops is not None:
        return round(question.flops), []
    if question.pf_days is not None:
        return round(Decimal(str(question.pf_days)) * PF_DAY), []  # exact: 3640 × 8.64e19
    if question.gpu_hours is not None:
        if gpu is None:
            raise SpecError("is not known to the caller", "gpu")
        number_format = "bf16" if "bf16" in gpu.peak else "fp16"
        peak, mfu = gpu.dense_peak(number_format), question.mfu or DEFAULT_MFU
        flops = question.gpu_hours * 3600 * peak * mfu
        check_flops(flops, "gpu_hours")
        stated = "" if question.mfu else ", assumed; say --mfu"
        return round(flops), [f"{gpu.name}: {peak / 1e12:,.4g} TFLOP/s dense {number_format}, {mfu:.3g} of it used{stated}"]
    if size is not None and question.tokens is not None:
        flops = dense_training_flops(size, question.tokens)
        check_flops(flops, *question.given)
        return round(flops), []
    return None, []


def _check_size(parameters: int) -> None:
    if not 1000 <= parameters <= 10**18:
        raise SpecError(f"has {format_count(parameters)} parameters; between 1000 and 1e18 are accepted", "model")


def _optimum(row: Law, flops: int | None, parameters: int | None, tokens: int | None) -> LawOptimum:
    if flops is not None:
        point = row.form.at_flops(float(flops))
    elif parameters is not None:
        point = row.form.at_parameters(float(parameters))
    else:
        assert tokens is not None  # the question holds one of them
        point = row.form.at_tokens(float(tokens))
    return LawOptimum(row, point, tuple(row.outside(point)))


def _given(row: Law, parameters: int | None, tokens: int | None) -> Point | None:
    if parameters is None or tokens is None:
        return None
    flops = dense_training_flops(parameters, tokens)
    return Point(parameters, tokens, flops, row.form.loss(parameters, tokens))


def _is_mixture(row: Law) -> bool:
    return isinstance(row.form, GranularExperts)


def _judge(row: Law, given: Point, flops: float) -> Judgement:
    enough = row.form.at_parameters(given.parameters).tokens
    loss = row.form.loss(given.parameters, given.tokens)
    best = row.form.at_flops(flops).loss
    # Kaplan's L(N, D) and L(C) are separate fits: their difference means nothing
    left = max(loss - best, 0.0) if row.has_surface and loss is not None and best is not None else None
    same = row.form.flops_for(loss) if isinstance(row.form, Parametric) and loss is not None else None
    return Judgement(row, enough, given.tokens / enough, loss, left, min(same, flops) if same is not None else None)


def _serve(chosen: LawOptimum, given: Point | None, tokens: int | None) -> LifetimeOptimum | None:
    if tokens is None:
        return None
    form = chosen.law.form
    surface = form.fresh if isinstance(form, Repeated) else form
    assert isinstance(surface, Parametric)  # the question refuses others
    start = given or chosen.point
    best = inference_aware(surface, surface.loss(start.parameters, start.tokens), float(tokens))
    return LifetimeOptimum(tokens, start, lifetime_flops(start.parameters, start.tokens, tokens), best)


def _repeat(unique: int, run: Point, flops: float) -> Repetition:
    row = data_limited(law("muennighoff"), unique)
    best = row.form.at_flops(float(flops))
    worth, best_worth = (effective_amount(point.tokens, unique, TOKEN_DECAY) for point in (run, best))
    return Repetition(unique, run.tokens, run.tokens / unique, worth, unique * (1 + TOKEN_DECAY), best, best_worth)


# --- curves -----------------------------------------------------------------------------------------------------------

POINTS = 121
ISO_FLOP_SPAN, FRONTIER_SPAN = 20, 1000  # times smaller and larger than the optimum


def _curves(row: Law, optimum: Point, flops: float, given: Point | None) -> Curves:
    """Under the chosen law, or under the default one where the chosen has no surface to draw."""
    if not row.has_surface:
        row = law(DEFAULT)
        optimum = row.form.at_flops(flops)
        given = _given(row, round(given.parameters), round(given.tokens)) if given else None
    sizes = [optimum.parameters / ISO_FLOP_SPAN, optimum.parameters * ISO_FLOP_SPAN]
    if given:
        sizes += [given.parameters / 2, given.parameters * 2]
    iso = [(n, loss) for n in _spaced(min(sizes), max(sizes)) if (loss := row.form.loss(n, flops / (6 * n))) is not None]
    budgets = _spaced(flops / FRONTIER_SPAN, flops * FRONTIER_SPAN)
    frontier = [(c, loss) for c in budgets if (loss := row.form.at_flops(c).loss) is not None]
    return Curves(row, iso, frontier, optimum, given)


def _spaced(low: float, high: float) -> list[float]:
    """Evenly on a logarithmic scale, both ends included."""
    return [low * (high / low) ** (step / (POINTS - 1)) for step in range(POINTS)]


# --- in words ---------------------------------------------------------------------------------------------------------


def _assumptions(optima: Sequence[LawOptimum], served: LifetimeOptimum | None) -> list[str]:
    found = ["compute is 6 FLOP per parameter and token (attention scores left out)"]
    if any(entry.point.loss is not None for entry in optima):
        found.append("losses are nats per token of each law's own data: compare them under one law, not between two")
    found += [f"{entry.law.name} counts {entry.law.counts}" for entry in optima if entry.law.counts != "all parameters"]
    if served:
        found.append("serving costs 2 FLOP per parameter and token at the utilisation of training; training data is fresh")
    return found


def _extrapolations(optima: Sequence[LawOptimum]) -> list[str]:
    return [f"{entry.law.name} extrapolates: {', '.join(entry.outside)}" for entry in optima if entry.outside]


def _repetition_warnings(repetition: Repetition | None) -> list[str]:
    if repetition is None:
        return []
    found = []
    if repetition.epochs > MANY_EPOCHS:
        found.append(
            f"{repetition.epochs:,.3g} epochs: {format_count(repetition.tokens)} tokens are worth "
            f"{format_count(repetition.effective_tokens)} fresh ones; beyond {MANY_EPOCHS} epochs repetition loses value"
        )
    if repetition.best.tokens > repetition.most_effective_tokens:
        found.append(
            f"the data is used up: however often they are repeated, {format_count(repetition.unique)} unique tokens "
            f"are worth at most {format_count(repetition.most_effective_tokens)}, and more compute hardly helps"
        )
    return found
