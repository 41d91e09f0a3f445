"""Every key of `chinchilla`: the law's formula with its constants, or the search that stands in for one."""

from dataclasses import asdict
from typing import Any

from memcalc.estimates.compute.scaling import DEFAULT_MFU, Judgement
from memcalc.estimates.explanation import Explanation, follows, given, of_formula
from memcalc.formulas.compute import dense_training_flops
from memcalc.formulas.compute_optimal import (
    joint_loss,
    parametric_flops,
    parametric_loss,
    parametric_parameters,
    parametric_parameters_for_tokens,
    parametric_tokens,
)
from memcalc.formulas.formula import ASSUMED, ESTIMATE
from memcalc.formulas.granular_experts import GranularExperts
from memcalc.formulas.inference_aware import lifetime_flops
from memcalc.formulas.law_forms import LawForm, Parametric, Point, PowerLaw, SeparateFits, Tabulated
from memcalc.formulas.repeated_data import TOKEN_DECAY, Repeated, effective_amount
from memcalc.formulas.scaling_laws import Law
from memcalc.sizing.explaining.keys import Key, Table
from memcalc.sizing.explaining.shared import ALWAYS, gpu_fact, option
from memcalc.sizing.scaling import SizedScaling
from memcalc.sizing.subjects import as_accelerator
from memcalc.units import PF_DAY

UNITS = {"parameters": "parameters", "tokens": "tokens", "flops": "FLOP", "loss": "nats a token"}

# --- what was asked ---------------------------------------------------------------------------------------------------


def parameters(a: SizedScaling, path: str = "parameters") -> Explanation:
    """Of the model that the question names."""
    if a.question.params is not None:
        return given(path, a.question.params, "given by --params", "parameters")
    value = a.given.parameters if a.given else a.size
    return given(path, value, f"active parameters of {a.name}", "parameters")


def tokens(a: SizedScaling, path: str = "tokens") -> Explanation:
    return given(path, a.question.tokens, "given by --tokens", "tokens")


def budget(a: SizedScaling, path: str = "flops") -> Explanation:
    """The compute that is asked about."""
    question = a.question
    if question.flops is not None:
        return given(path, a.flops, "given by --flops", "FLOP")
    if question.pf_days is not None:
        days = given("pf_days", question.pf_days, "given by --pf-days", "petaFLOP/s-days")
        return follows(path, a.flops, "FLOP", f"pf_days * {PF_DAY}", days)
    if question.gpu_hours is not None:
        gpu = as_accelerator(question.gpu, a.presets)
        assert gpu
        form = "bf16" if "bf16" in gpu.peak else "fp16"
        mfu = given("mfu", question.mfu or DEFAULT_MFU, "given by --mfu" if question.mfu else "default of --mfu", "share",
                    "exact" if question.mfu else ASSUMED)  # fmt: skip
        hours = given("gpu_hours", question.gpu_hours, "given by --gpu-hours", "h")
        peak = gpu_fact(gpu, "peak", gpu.peak[form], f"peak.{form}", "FLOP/s")
        return follows(path, a.flops, "FLOP", "gpu_hours * 3600 * peak * mfu", hours, peak, mfu)
    return of_formula(path, "FLOP", dense_training_flops, parameters(a), tokens(a),
                      parameters=parameters(a).value, tokens=question.tokens)  # fmt: skip


# --- the optimum under a law ------------------------------------------------------------------------------------------


def cited(law: Law) -> str:
    return f"{law.source}: {law.place}"


def constants(law: Law, form: Any, *names: str) -> list[Explanation]:
    """A form's constants, each with the place it was printed."""
    return [given(name, getattr(form, name), cited(law), certainty=ESTIMATE) for name in names]


SLOPES = ("a", "b", "alpha", "beta")


class Asked:
    """One law, the optimum that it answers, and what the question fixes of it: flops, parameters or tokens."""

    def __init__(self, a: SizedScaling, law: Law, point: Point, fixed: str, known: Explanation) -> None:
        self.a, self.law, self.point, self.fixed, self.known = a, law, point, fixed, known
        form: LawForm = law.form
        self.form: Any = form.fresh if isinstance(form, Repeated) and form.unique is None else form

    def of(self, quantity: str, path: str = "") -> Explanation:
        """parameters, tokens, flops, loss or tokens_per_parameter of the optimum."""
        path = path or quantity
        if quantity == self.fixed:
            return self.known.named(path)
        if quantity == "tokens_per_parameter":
            per = "active_parameters" if self.point.active else "parameters"
            return follows(path, self.point.tokens_per_parameter, "tokens", f"tokens / {per}", self.of("tokens"), self.of(per))
        return FORMS.get(type(self.form), Asked.searched)(self, quantity, path)

    def value(self, quantity: str) -> Any:
        return self.point.active if quantity == "active_parameters" else getattr(self.point, quantity)

    def rest(self, quantity: str, path: str) -> Explanation:
        """From C = 6ND."""
        other = "parameters" if quantity == "tokens" else "tokens"
        return follows(path, self.value(quantity), UNITS[quantity], f"flops / (6 * {other})", self.of("flops"), self.of(other),
                       source="kaplan-2020: C = 6ND")  # fmt: skip

    def product(self, path: str) -> Explanation:
        """C = 6ND of parameters and tokens."""
        return of_formula(path, "FLOP", dense_training_flops, self.of("parameters"), self.of("tokens"),
                          parameters=self.point.parameters, tokens=self.point.tokens)  # fmt: skip

    def searched(self, quantity: str, path: str) -> Explanation:
        """Where no closed form is known: what the search is for."""
        inputs = {**{k: v for k, v in asdict(self.form).items() if isinstance(v, (int, float))}, self.fixed: self.known.value}
        if self.point.granularity:
            inputs["granularity"] = self.point.granularity
        why = "the lowest loss of the surface for what is given, found by halving intervals"
        return Explanation(
            path, self.value(quantity), UNITS.get(quantity, "parameters"), why, inputs, cited(self.law), ESTIMATE
        )

    def parametric(self, quantity: str, path: str) -> Explanation:
        slopes = constants(self.law, self.form, *SLOPES)
        numbers = {part.path: part.value for part in slopes}
        if quantity == "loss":
            entropy = constants(self.law, self.form, "e")
            inputs = {"parameters": self.point.parameters, "tokens": self.point.tokens, "e": self.form.e, **numbers}
            return of_formula(path, UNITS["loss"], parametric_loss, self.of("parameters"), self.of("tokens"), *entropy, *slopes,
                              **inputs)  # fmt: skip
        if quantity == "flops":
            return self.product(path)
        if self.fixed == "flops" and quantity == "parameters":
            return of_formula(path, "parameters", parametric_parameters, self.known, *slopes, flops=float(self.known.value),
                              **numbers)  # fmt: skip
        if self.fixed == "flops":
            return self.rest(quantity, path)
        function = parametric_tokens if quantity == "tokens" else parametric_parameters_for_tokens
        return of_formula(path, UNITS[quantity], function, self.known, *slopes, **{self.fixed: float(self.known.value)},
                          **numbers)  # fmt: skip

    def power(self, quantity: str, path: str) -> Explanation:
        own = constants(self.law, self.form, "base", "exponent")
        if quantity == self.form.of and self.fixed == "flops":
            return follows(path, self.value(quantity), UNITS[quantity], "base * flops ** exponent", *own, self.known)
        if quantity == "flops":
            formula = f"({self.fixed} / base) ** (1 / exponent)"
            if self.fixed != self.form.of:
                formula = f"(6 * base * {self.fixed}) ** (1 / (1 - exponent))"
            return follows(path, self.point.flops, "FLOP", formula, *own, self.known)
        return self.rest(quantity, path)

    def tabulated(self, quantity: str, path: str) -> Explanation:
        """Between two rows of the printed table, on logarithmic axes."""
        if self.fixed == "tokens" and quantity == "flops":
            return self.product(path)
        if (quantity, self.fixed) in (("tokens", "flops"), ("tokens", "parameters")):
            return self.rest(quantity, path)
        rows = {f"row {number}": f"{n:.4g} parameters, {c:.4g} FLOP" for number, (n, c) in enumerate(self.form.rows, start=1)}
        why = "the straight line on logarithmic axes through the nearest two rows of the printed table"
        return Explanation(path, self.value(quantity), UNITS[quantity], why, {**rows, self.fixed: self.known.value},
                           cited(self.law), ESTIMATE, (self.known.named(self.fixed),))  # fmt: skip

    def separate(self, quantity: str, path: str) -> Explanation:
        """Kaplan's lines against petaFLOP/s-days."""
        if quantity == "flops":
            base, exponent = getattr(self.form, self.fixed)
            return self._line(path, "FLOP", f"({self.fixed} / base) ** (1 / exponent) * {PF_DAY}", base, exponent, self.known)
        flops = self.of("flops")
        if quantity == "loss":
            base, exponent = self.form.compute
            return self._line(path, UNITS["loss"], f"(base / (flops / {PF_DAY})) ** exponent", base, exponent, flops)
        base, exponent = getattr(self.form, quantity)
        return self._line(path, UNITS[quantity], f"base * (flops / {PF_DAY}) ** exponent", base, exponent, flops)

    def _line(self, path: str, unit: str, formula: str, base: float, exponent: float, known: Explanation) -> Explanation:
        quantity = {"FLOP": "flops", "nats a token": "loss"}.get(unit, unit)
        own = [given(n, v, cited(self.law), certainty=ESTIMATE) for n, v in (("base", base), ("exponent", exponent))]
        return follows(path, self.value(quantity), unit, formula, *own, known)


FORMS = {
    Parametric: Asked.parametric, PowerLaw: Asked.power, Tabulated: Asked.tabulated, SeparateFits: Asked.separate,
    GranularExperts: Asked.searched,
}  # fmt: skip


def asked(a: SizedScaling, law: Law, point: Point) -> Asked:
    """What the question fixes of a law's optimum."""
    if a.flops is not None:
        return Asked(a, law, point, "flops", budget(a))
    if a.size is not None:
        return Asked(a, law, point, "parameters", parameters(a))
    return Asked(a, law, point, "tokens", tokens(a))


def rounded(found: Explanation, key: Key) -> Explanation:
    """Counts stand in the document as whole ones."""
    return found.named(key.path)._replace(value=key.value)


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
