"""Training on the same tokens more than once: what a repeated token is worth, and the optimum when data is limited."""

from math import exp, log

from memcalc.formulas.compute import dense_training_flops
from memcalc.formulas.compute_optimal import bisect
from memcalc.formulas.formula import ESTIMATE, formula
from memcalc.formulas.law_forms import Parametric, Point
from memcalc.frozen import dataclass

TOKEN_DECAY = 15.387756  # R_D*, Muennighoff et al. 2023, appendix A; the text rounds to 15.4
PARAMETER_DECAY = 5.309743  # R_N*, same place; rounded to 5.3

_SMALLEST, _LARGEST = 1e-30, 1e60  # bounds of every search here


@formula("muennighoff-2023", "equations 5 and 6", ESTIMATE)
def effective_amount(amount: float, unique: float, decay: float) -> float:
    """How much fresh data repeated data is worth; the same form says what parameters beyond the data's share are worth.

    D' = U + U × R* × (1 − exp(−(D / U − 1) / R*))      for D above U, else D

    amount [count] used in all, unique [count], decay = R*. Returns the effective amount [count], below (1 + R*) × U.

    >>> [round(effective_amount(epochs, 1, 15.387756) / epochs, 3) for epochs in (1, 4, 16, 40)]
    [1.0, 0.931, 0.661, 0.379]
    """
    return min(amount, unique) + unique * decay * (1 - exp(-max(amount / unique - 1, 0) / decay))


@dataclass(frozen=True)
class Repeated:
    """A parametric surface in effective parameters and tokens, for a stock of unique tokens (None: without end)."""

    fresh: Parametric
    unique: float | None = None

    def at_flops(self, flops: float) -> Point:
        if self.unique is None:
            return self.fresh.at_flops(flops)
        parameters = bisect(lambda n: -self._balance(n, flops / (6 * n)), _SMALLEST, _LARGEST)
        return self._point(parameters, flops / (6 * parameters))

    def at_parameters(self, parameters: float) -> Point:
        if self.unique is None:
            return self.fresh.at_parameters(parameters)
        return self._point(parameters, bisect(lambda d: self._balance(parameters, d), _SMALLEST, _LARGEST))

    def at_tokens(self, tokens: float) -> Point:
        if self.unique is None:
            return self.fresh.at_tokens(tokens)
        return self._point(bisect(lambda n: -self._balance(n, tokens), _SMALLEST, _LARGEST), tokens)

    def loss(self, parameters: float, tokens: float) -> float:
        return self.fresh.loss(self.effective_parameters(parameters), self.effective_tokens(tokens))

    def effective_tokens(self, tokens: float) -> float:
        return tokens if self.unique is None else effective_amount(tokens, self.unique, TOKEN_DECAY)

    def effective_parameters(self, parameters: float) -> float:
        """Parameters beyond those that the unique tokens call for are worth less, as repeated tokens are."""
        if self.unique is None:
            return parameters
        return effective_amount(parameters, self.fresh.at_tokens(self.unique).parameters, PARAMETER_DECAY)

    def _balance(self, parameters: float, tokens: float) -> float:
        """log of what one more parameter in a thousand brings over what one more token in a thousand does.

        Falls with parameters and rises with tokens, so the optimum is where it is zero. In logarithms, since far beyond
        the data both gains are too small for a float.
        """
        assert self.unique is not None
        f = self.fresh
        share = f.at_tokens(self.unique).parameters
        return _gain(parameters, share, PARAMETER_DECAY, f.a, f.alpha) - _gain(tokens, self.unique, TOKEN_DECAY, f.b, f.beta)

    def _point(self, parameters: float, tokens: float) -> Point:
        return Point(parameters, tokens, dense_training_flops(parameters, tokens), self.loss(parameters, tokens))


def _gain(amount: float, unique: float, decay: float, scale: float, exponent: float) -> float:
    """log of −dL / dlog(amount), for the loss term scale / effective^exponent."""
    effective = effective_amount(amount, unique, decay)
    marginal = log(amount / effective) - max(amount / unique - 1, 0) / decay
    return log(exponent * scale) - exponent * log(effective) + marginal
