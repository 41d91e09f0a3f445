"""Every key of `chinchilla`: optima under each law, the model that is judged, serving and repeated data."""

from memcalc.estimates.compute.scaling import Judgement
from memcalc.estimates.explanation import Explanation, follows, given, of_formula
from memcalc.formulas.compute import dense_training_flops
from memcalc.formulas.compute_optimal import (
    joint_loss,
    parametric_flops,
    parametric_loss,
)
from memcalc.formulas.formula import ESTIMATE
from memcalc.formulas.inference_aware import lifetime_flops
from memcalc.formulas.law_forms import SeparateFits
from memcalc.formulas.repeated_data import TOKEN_DECAY, Repeated, effective_amount
from memcalc.formulas.scaling_laws import Law
from memcalc.sizing.explaining.keys import Key, Table
from memcalc.sizing.explaining.scaling_optimum import (
    SLOPES,
    UNITS,
    Asked,
    asked,
    budget,
    cited,
    constants,
    parameters,
    rounded,
    tokens,
)
from memcalc.sizing.explaining.shared import ALWAYS, option
from memcalc.sizing.scaling import SizedScaling


def optimum(a: SizedScaling, key: Key) -> Explanation:
    entry = a.chosen if key.steps[0] == "optimal" else a.optima[key.number()]
    return rounded(asked(a, entry.law, entry.point).of(key.last), key)


def of_law(a: SizedScaling, key: Key) -> Explanation:
    """laws.*.constants and what the law was fitted on."""
    law = a.optima[key.number()].law
    what = {"fitted_on": "the runs that the law was fitted on", "ranges": law.confidence}.get(key.steps[2], "")
    return given(key.path, key.value, f"{cited(law)}{f'; {what}' if what else ''}", certainty=ESTIMATE)


# --- the model that is judged -----------------------------------------------------------------------------------------


def run(a: SizedScaling, quantity: str, path: str = "") -> Explanation:
    """Parameters, tokens and compute of the model given."""
    path = path or quantity
    if quantity == "parameters":
        return parameters(a, path)
    if quantity == "tokens":
        return tokens(a, path)
    ours, theirs = parameters(a), tokens(a)
    if quantity == "tokens_per_parameter":
        return follows(path, theirs.value / ours.value, "tokens", "tokens / parameters", theirs, ours)
    return of_formula(path, "FLOP", dense_training_flops, ours, theirs, parameters=ours.value, tokens=theirs.value)


def judged(a: SizedScaling, entry: Judgement, quantity: str, path: str) -> Explanation:
    """How far the model is from the optimum under a law."""
    assert a.given
    law, form = entry.law, entry.law.form
    if quantity == "optimal_tokens":
        point = form.at_parameters(a.given.parameters)
        return Asked(a, law, point, "parameters", parameters(a)).of("tokens", path)
    if quantity == "over_training":
        return follows(path, entry.over_training, "", "tokens / optimal_tokens", tokens(a),
                       judged(a, entry, "optimal_tokens", "optimal_tokens"))  # fmt: skip
    if quantity == "loss":
        return _loss(a, law, entry.loss, path)
    loss = _loss(a, law, entry.loss, "loss")
    if quantity == "loss_left":
        flops = a.flops if a.flops is not None else a.chosen.point.flops
        best = Asked(a, law, form.at_flops(flops), "flops", budget(a)).of("loss", "best loss")
        return follows(path, entry.loss_left, UNITS["loss"], "max(loss - best loss, 0.0)", loss, best)
    own = form.fresh if isinstance(form, Repeated) else form
    names = ("e", *SLOPES)
    numbers = {name: getattr(own, name) for name in names}
    least = of_formula(
        "least compute", "FLOP", parametric_flops, loss, *constants(law, own, *names), loss=entry.loss, **numbers
    )
    flops_asked = budget(a)
    return follows(path, entry.equivalent_flops, "FLOP", "min(least compute, flops)", least, flops_asked)


def _loss(a: SizedScaling, law: Law, value: float | None, path: str) -> Explanation:
    """The law's loss of the model given."""
    form, ours, theirs = law.form, parameters(a), tokens(a)
    if isinstance(form, SeparateFits):
        numbers = dict(zip(("n_c", "d_c", "alpha_n", "alpha_d"), form.joint, strict=True))
        own = [given(name, number, cited(law), certainty=ESTIMATE) for name, number in numbers.items()]
        return of_formula(path, UNITS["loss"], joint_loss, *own, ours, theirs, **numbers, parameters=ours.value,
                          tokens=theirs.value)  # fmt: skip
    if isinstance(form, Repeated) and form.unique is not None:
        worth = {"parameters": form.effective_parameters(ours.value), "tokens": form.effective_tokens(theirs.value)}
        ours = given(
            "parameters", worth["parameters"], "what the parameters are worth beside so few unique tokens", "parameters"
        )
        theirs = _effective(a, "tokens", a.question.tokens, worth["tokens"])
    surface = form.fresh if isinstance(form, Repeated) else form
    names = ("e", *SLOPES)
    numbers = {name: getattr(surface, name) for name in names}
    return of_formula(path, UNITS["loss"], parametric_loss, ours, theirs, *constants(law, surface, *names),
                      parameters=ours.value, tokens=theirs.value, **numbers)  # fmt: skip


def model_key(a: SizedScaling, key: Key) -> Explanation:
    if key.last in ("parameters", "tokens", "flops", "tokens_per_parameter"):
        return rounded(run(a, key.last), key)
    entry = next(entry for entry in a.judgements if entry.law.name == a.chosen.law.name)
    return rounded(judged(a, entry, key.last, key.path), key)


def model_law(a: SizedScaling, key: Key) -> Explanation:
    return rounded(judged(a, a.judgements[key.number()], key.last, key.path), key)


# --- serving, and repeating data --------------------------------------------------------------------------------------


def lifetime(a: SizedScaling, key: Key) -> Explanation:
    """inference.*: the run of the same loss that costs least with serving."""
    assert a.served
    served, best, start = a.served, a.served.best, a.served.start
    asked_for = given("served", served.tokens, "given by --inference-tokens", "tokens")
    numbers = {"loss": best.loss, "served": served.tokens}
    why = "of the same loss, the least 6 * parameters * tokens + 2 * parameters * served"
    source = "sardana-2024: section 3"
    found = {
        "parameters": Explanation("parameters", best.parameters, "parameters", why, numbers, source, ESTIMATE, (asked_for,)),
        "tokens": Explanation("tokens", best.tokens, "tokens", why, numbers, source, ESTIMATE, (asked_for,)),
        "served_tokens": asked_for,
        "loss": given(
            "loss", best.loss, f"under {a.chosen.law.name}, of the run that is to be replaced", UNITS["loss"], ESTIMATE
        ),
    }
    if key.last in found:
        return rounded(found[key.last], key)
    if key.last == "tokens_per_parameter":
        return follows(key.path, key.value, "tokens", "tokens / parameters", found["tokens"], found["parameters"])
    if key.last == "lifetime_flops":
        return rounded(of_formula("", "FLOP", lifetime_flops, found["parameters"], found["tokens"], asked_for,
                                  parameters=best.parameters, tokens=best.tokens, served=served.tokens), key)  # fmt: skip
    if key.last == "asked_lifetime_flops":
        return rounded(of_formula("", "FLOP", lifetime_flops, asked_for, parameters=start.parameters, tokens=start.tokens,
                                  served=served.tokens), key)  # fmt: skip
    optimal = Explanation("compute-optimal", best.compute_optimal_flops, "FLOP",
                          "6 * parameters * tokens + 2 * parameters * served of the compute-optimal run of this loss", numbers,
                          source, ESTIMATE)  # fmt: skip
    if key.last == "compute_optimal_lifetime_flops":
        return rounded(optimal, key)
    least = lifetime(a, key.at("inference.lifetime_flops"))._replace(value=best.flops)
    return follows(key.path, key.value, "share", "1 - inference.lifetime_flops / compute-optimal", least, optimal)


def _effective(a: SizedScaling, path: str, amount: float | None, value: float) -> Explanation:
    """What repeated tokens are worth."""
    assert a.repetition
    unique = given("unique", a.repetition.unique, "given by --unique-tokens", "tokens")
    decay = given("decay", TOKEN_DECAY, "muennighoff-2023: appendix A", "", ESTIMATE)
    made = of_formula(path, "tokens", effective_amount, unique, decay, amount=amount, unique=unique.value, decay=decay.value)
    return made._replace(value=value)


def repetition(a: SizedScaling, key: Key) -> Explanation:
    """repetition.*: what a stock of unique tokens is worth."""
    assert a.repetition
    again = a.repetition
    unique = given("unique", again.unique, "given by --unique-tokens", "tokens")
    best = key.steps[1] == "optimal"
    used = again.best.tokens if best else again.tokens
    whose = "of the best run of the same compute" if best else "of the run"
    seen = given("tokens", used, whose, "tokens", ESTIMATE if best else "exact")
    if key.last == "unique_tokens":
        return unique.named(key.path)
    if key.last == "epochs":
        return follows(key.path, key.value, "", "tokens / unique", seen, unique)
    if key.last == "effective_tokens":
        return rounded(_effective(a, key.path, again.tokens, again.effective_tokens), key)
    if key.last == "most_effective_tokens":
        decay = given("decay", TOKEN_DECAY, "muennighoff-2023: appendix A", "", ESTIMATE)
        return rounded(follows("", again.most_effective_tokens, "tokens", "unique * (1 + decay)", unique, decay), key)
    if best:
        why = "the lowest loss on these unique tokens for the same compute, found by halving intervals"
        return Explanation(key.path, key.value, UNITS[key.last], why, {"unique": again.unique}, "muennighoff-2023", ESTIMATE)
    return rounded(seen, key)


def given_key(a: SizedScaling, key: Key) -> Explanation:
    return given(key.path, key.value, f"given by {option(key.steps[1])}", UNITS.get(key.last, ""))


ROWS: Table = {
    "given.**": given_key,
    "optimal.granularity": lambda a, key: of_law_search(a, key),
    "laws.*.granularity": lambda a, key: of_law_search(a, key),
    "optimal.*": optimum,
    "laws.*.constants.**": of_law,
    "laws.*.fitted_on.**": of_law,
    "laws.*.ranges.**": of_law,
    "laws.*.*": optimum,
    "model.laws.*.*": model_law,
    "model.*": model_key,
    "inference.*": lifetime,
    "repetition.**": repetition,
    **ALWAYS,
}


def of_law_search(a: SizedScaling, key: Key) -> Explanation:
    """The granularity of the lowest loss."""
    entry = a.chosen if key.steps[0] == "optimal" else a.optima[key.number()]
    return given(key.path, key.value, f"{cited(entry.law)}; the granularity of the lowest loss", certainty=ESTIMATE)
