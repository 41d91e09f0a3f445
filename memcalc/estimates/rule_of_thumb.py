"""Bytes per parameter of every precision × optimizer, from the same tables as the full estimate."""

from collections.abc import Sequence

from memcalc.dtypes import number_format
from memcalc.errors import InputError, nearest
from memcalc.formulas.bytes_per_parameter import BytesPerParameter, activation_bytes_per_parameter
from memcalc.formulas.optimizers import optimizer, state_bytes
from memcalc.formulas.precision import PRECISION_NAMES, precision
from memcalc.frozen import NamedTuple

COMMON_OPTIMIZERS = ("adamw", "adamw-8bit", "adafactor", "lion", "muon", "sgd-momentum", "sgd")
USUAL = (("fp32", "bf16-mixed"), ("adamw", "adamw-8bit", "adafactor", "sgd"))  # precisions and optimizers asked about first
TYPICAL_SHAPE = (4096, 4096)  # a matrix for optimizers whose states depend on the shape


class RuleOfThumb(NamedTuple):
    precision: str
    optimizer: str
    bytes: BytesPerParameter
    note: str


def rows(precisions: Sequence[str] = (), optimizers: Sequence[str] = ()) -> list[RuleOfThumb]:
    """One row a combination; an InputError names what is not known."""
    for name in precisions:
        if name not in PRECISION_NAMES:
            raise InputError(
                f"{name!r:.40} is not one of {', '.join(PRECISION_NAMES)}, nor a number format to store in"
                f"{nearest(name, PRECISION_NAMES)}",
                place="--precision",
            )
    return [_row(word, name) for word in (precisions or PRECISION_NAMES) for name in (optimizers or COMMON_OPTIMIZERS)]


def usual_and_others() -> tuple[list[RuleOfThumb], list[RuleOfThumb]]:
    """The rows that most people ask for, and those that are left of the common ones."""
    usual = rows(*USUAL)
    return usual, [row for row in rows() if row not in usual]


def stored_only(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words for a precision: those to train in, and those that are number formats to store in alone."""
    train, store = [], []
    for word in words:
        name = word.lower()
        if name not in PRECISION_NAMES:
            try:
                store.append(number_format(name).name)
                continue
            except InputError:
                pass  # `rows` refuses it
        train.append(name)
    return train, store


def _row(word: str, name: str) -> RuleOfThumb:
    formats, row = precision(word), optimizer(name)
    sizes = {part: number_format(getattr(formats, part)).bytes_for(1) for part in ("weights", "gradients", "states", "compute")}
    elements = TYPICAL_SHAPE[0] * TYPICAL_SHAPE[1]
    states = state_bytes(row, TYPICAL_SHAPE, parameter_bytes=sizes["states"]) / elements
    master = number_format(formats.master).bytes_for(1) if formats.master else 0
    activations = activation_bytes_per_parameter(sizes["compute"])
    note = "" if row.elementwise else "states of a 4096 × 4096 matrix"
    return RuleOfThumb(
        word, row.name, BytesPerParameter(sizes["weights"], sizes["gradients"], states, master, activations), note
    )
