"""The forms that a scaling law can take. A law is one form with its constants: a row of `scaling_laws`.

A form answers for a budget C [FLOP], for given parameters or for given tokens, and, where its authors fitted one, says
the loss of any N and D.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import log
from typing import Protocol

from memcalc.formulas.compute import dense_training_flops
from memcalc.formulas.compute_optimal import (
    joint_loss,
    parametric_flops,
    parametric_loss,
    parametric_parameters,
    parametric_parameters_for_tokens,
    parametric_tokens,
    power_law,
)
from memcalc.frozen import NamedTuple, dataclass
from memcalc.units import PF_DAY


class Point(NamedTuple):
    """One training run: how large a model on how many tokens, its compute, and the loss where the law predicts one."""

    parameters: float
    tokens: float
    flops: float
    loss: float | None = None
    active: float | None = None  # parameters that a token passes through, where they are not all
    granularity: int | None = None  # of a mixture of experts

    @property
    def tokens_per_parameter(self) -> float:
        return self.tokens / (self.active or self.parameters)


class LawForm(Protocol):
    """What every form of a law answers."""

    def at_flops(self, flops: float) -> Point: ...
    def at_parameters(self, parameters: float) -> Point: ...
    def at_tokens(self, tokens: float) -> Point: ...
    def loss(self, parameters: float, tokens: float) -> float | None: ...


@dataclass(frozen=True)
class Parametric:
    """A loss surface L = E + A / N^alpha + B / D^beta; its optimum has a closed form."""

    e: float
    a: float
    b: float
    alpha: float
    beta: float

    @property
    def _slopes(self) -> tuple[float, float, float, float]:
        return self.a, self.b, self.alpha, self.beta

    def at_flops(self, flops: float) -> Point:
        parameters = parametric_parameters(flops, *self._slopes)
        return self._point(parameters, flops / (6 * parameters))

    def at_parameters(self, parameters: float) -> Point:
        return self._point(parameters, parametric_tokens(parameters, *self._slopes))

    def at_tokens(self, tokens: float) -> Point:
        return self._point(parametric_parameters_for_tokens(tokens, *self._slopes), tokens)

    def loss(self, parameters: float, tokens: float) -> float:
        return parametric_loss(parameters, tokens, self.e, *self._slopes)

    def flops_for(self, loss: float) -> float:
        """The least compute that reaches that loss."""
        return parametric_flops(loss, self.e, *self._slopes)

    def _point(self, parameters: float, tokens: float) -> Point:
        return Point(parameters, tokens, dense_training_flops(parameters, tokens), self.loss(parameters, tokens))


@dataclass(frozen=True)
class PowerLaw:
    """One straight line against compute, for parameters or for tokens; the other follows from C = 6ND."""

    base: float
    exponent: float
    of: str  # "parameters" or "tokens"

    def at_flops(self, flops: float) -> Point:
        found = power_law(self.base, flops, self.exponent)
        rest = flops / (6 * found)
        return Point(found, rest, flops) if self.of == "parameters" else Point(rest, found, flops)

    def at_parameters(self, parameters: float) -> Point:
        flops = self._flops(parameters, itself=self.of == "parameters")
        return Point(parameters, flops / (6 * parameters), flops)

    def at_tokens(self, tokens: float) -> Point:
        flops = self._flops(tokens, itself=self.of == "tokens")
        return Point(flops / (6 * tokens), tokens, flops)

    def loss(self, parameters: float, tokens: float) -> None:
        """Only the optimum was fitted."""

    def _flops(self, count: float, *, itself: bool) -> float:
        """C from the quantity that the line is of, or from the other: C / (6 × other) = base × C^exponent."""
        if itself:
            return _inverse((self.base, self.exponent), count)
        return float((6 * self.base * count) ** (1 / (1 - self.exponent)))


@dataclass(frozen=True)
class Tabulated:
    """A published table of optima, parameters and FLOP, joined by straight lines on logarithmic axes and continued beyond.

    For a fit whose constants were never printed. Tokens follow from C = 6ND.
    """

    rows: tuple[tuple[float, float], ...]

    def at_flops(self, flops: float) -> Point:
        parameters = _joined(flops, [(c, n) for n, c in self.rows])
        return Point(parameters, flops / (6 * parameters), flops)

    def at_parameters(self, parameters: float) -> Point:
        flops = _joined(parameters, self.rows)
        return Point(parameters, flops / (6 * parameters), flops)

    def at_tokens(self, tokens: float) -> Point:
        parameters = _joined(tokens, [(c / (6 * n), n) for n, c in self.rows])
        return Point(parameters, tokens, dense_training_flops(parameters, tokens))

    def loss(self, parameters: float, tokens: float) -> None:
        """Only the optimum was printed."""


def _joined(x: float, rows: Sequence[tuple[float, float]]) -> float:
    """y at x on the log-log line through the nearest two rows.

    >>> _joined(10.0, [(1.0, 1.0), (100.0, 10000.0)])
    100.0
    """
    (x0, y0), (x1, y1) = next((pair for pair in pairwise(rows) if x <= pair[1][0]), (rows[-2], rows[-1]))
    return float(y0 * (x / x0) ** (log(y1 / y0) / log(x1 / x0)))


@dataclass(frozen=True)
class SeparateFits:
    """Kaplan's: parameters and tokens each a line against compute, fitted apart, so 6ND is not the compute.

    C is the least compute, that of a batch far below the critical one. Losses: L(C) at the optimum, L(N, D) elsewhere.
    """

    parameters: tuple[float, float]  # base and exponent against petaFLOP/s-days
    tokens: tuple[float, float]
    compute: tuple[float, float]  # C_c [petaFLOP/s-days] and alpha_C of L = (C_c / C)^alpha_C
    joint: tuple[float, float, float, float]  # n_c, d_c, alpha_n, alpha_d of joint_loss

    def at_flops(self, flops: float) -> Point:
        days = flops / PF_DAY
        critical, slope = self.compute
        return Point(_line(self.parameters, days), _line(self.tokens, days), flops, power_law(1.0, critical / days, slope))

    def at_parameters(self, parameters: float) -> Point:
        return self.at_flops(_inverse(self.parameters, parameters) * PF_DAY)._replace(parameters=parameters)

    def at_tokens(self, tokens: float) -> Point:
        return self.at_flops(_inverse(self.tokens, tokens) * PF_DAY)._replace(tokens=tokens)

    def loss(self, parameters: float, tokens: float) -> float:
        return joint_loss(*self.joint, parameters, tokens)


def _line(line: tuple[float, float], quantity: float) -> float:
    return power_law(line[0], quantity, line[1])


def _inverse(line: tuple[float, float], value: float) -> float:
    base, exponent = line
    return float((value / base) ** (1 / exponent))
