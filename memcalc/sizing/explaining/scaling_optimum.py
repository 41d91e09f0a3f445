"""A scaling law's optimum for what was asked: its formula with its constants, or the search that stands in for one."""

from dataclasses import asdict
from typing import Any

from memcalc.estimates.compute.scaling import DEFAULT_MFU
from memcalc.estimates.explanation import Explanation, follows, given, of_formula
from memcalc.formulas.compute import dense_training_flops
from memcalc.formulas.compute_optimal import (
    parametric_loss,
    parametric_parameters,
    parametric_parameters_for_tokens,
    parametric_tokens,
)
from memcalc.formulas.formula import ASSUMED, ESTIMATE
from memcalc.formulas.granular_experts import GranularExperts
from memcalc.formulas.law_forms import LawForm, Parametric, Point, PowerLaw, SeparateFits, Tabulated
from memcalc.formulas.repeated_data import Repeated
from memcalc.formulas.scaling_laws import Law
from memcalc.sizing.explaining.keys import Key
from memcalc.sizing.explaining.shared import gpu_fact
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
