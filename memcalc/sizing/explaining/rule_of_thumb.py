"""Every key of `bytes`: what a parameter takes, by precision and optimizer."""

from memcalc.dtypes import number_format
from memcalc.estimates.explanation import Explanation, follows, given, of_formula, summed
from memcalc.estimates.rule_of_thumb import TYPICAL_SHAPE, RuleOfThumb
from memcalc.formulas.bytes_per_parameter import activation_bytes_per_parameter
from memcalc.formulas.formula import ESTIMATE
from memcalc.formulas.model_states import block_format_bytes
from memcalc.formulas.optimizers import optimizer
from memcalc.formulas.precision import precision
from memcalc.sizing.explaining.keys import Key, Table
from memcalc.sizing.explaining.shared import ALWAYS
from memcalc.sizing.rule_of_thumb import SizedBytes

EXTRA = ("gradients", "optimizer_states", "master_weights", "activations")
FORMATS = {"weights": "weights", "gradients": "gradients", "master_weights": "master"}  # row's key → part of a precision


def parameters(a: SizedBytes, path: str) -> Explanation:
    return given(path, a.params, "given by --params, or its default", "parameters")


def store(a: SizedBytes, key: Key) -> Explanation:
    """Parameters in a number format."""
    row = number_format(key.last)
    made = of_formula(
        key.path, "B", block_format_bytes, elements=a.params, block=row.block_size, bytes_per_block=row.block_bytes
    )
    return made._replace(source=f"memcalc formats {row.name}")


def per_parameter(row: RuleOfThumb, name: str, path: str) -> Explanation:
    """One column of a row."""
    value, formats = getattr(row.bytes, name), precision(row.precision)
    if name == "activations":
        itemsize = given("compute_bytes", formats.bytes_of("compute"), f"{row.precision} computes in {formats.compute}", "B")
        return of_formula(path, "B", activation_bytes_per_parameter, itemsize, compute_bytes=itemsize.value)
    if name == "optimizer_states":
        states = optimizer(row.optimizer)
        shape = "" if states.elementwise else f", of a matrix of {TYPICAL_SHAPE[0]} × {TYPICAL_SHAPE[1]}"
        source = f"states of {row.optimizer}{shape}: memcalc optimizers {row.optimizer}"
        return given(path, value, source, "B", "exact" if states.elementwise else ESTIMATE)
    format_ = getattr(formats, FORMATS[name])
    return given(path, value, f"{format_} under {row.precision}" if format_ else f"{row.precision} has no separate copy", "B")


def row_key(a: SizedBytes, key: Key) -> Explanation:
    row = a.rows[key.number()]
    if key.last == "store":
        return per_parameter(row, "weights", key.path)
    if key.last in ("extra", "total"):
        names = EXTRA if key.last == "extra" else ("weights", *EXTRA)
        return summed(key.path, [per_parameter(row, name, name) for name in names])
    if key.last == "bytes_to_train":
        total = row_key(a, key.at(f"rows.{key.number()}.total")._replace(stars=key.stars)).named("total")
        return follows(key.path, key.value, "B", "round(total * parameters)", total, parameters(a, "parameters"))
    return per_parameter(row, key.last, key.path)


ROWS: Table = {
    "parameters": lambda a, key: parameters(a, key.path),
    "store.*": store,
    "rows.*.*": row_key,
    **ALWAYS,
}
