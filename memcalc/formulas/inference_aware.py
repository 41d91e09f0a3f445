"""The model that costs least over its life: a smaller one, trained for longer, when it will serve many tokens."""

from memcalc.formulas.compute_optimal import bisect, parametric_parameters
from memcalc.formulas.formula import ESTIMATE, formula
from memcalc.formulas.law_forms import Parametric
from memcalc.frozen import NamedTuple


@formula("sardana-2024", "equation 1", ESTIMATE)
def lifetime_flops(parameters: float, tokens: float, served: float) -> float:
    """Compute to train a model and then to serve it: 6 FLOP per parameter and trained token, 2 per served token.

    6 × N × D + 2 × N × D_inf

    parameters [count], tokens [count] trained on, served [count] read and written in use. Returns compute [FLOP].

    >>> lifetime_flops(parameters=7e9, tokens=2e12, served=1e12)
    9.8e+22
    """
    return 6 * parameters * tokens + 2 * parameters * served


class Lifetime(NamedTuple):
    """A model chosen for its whole life, and what the compute-optimal one of the same loss would cost."""

    parameters: float
    tokens: float
    flops: float  # training and serving
    loss: float
    compute_optimal_flops: float  # training and serving, of the compute-optimal model

    @property
    def tokens_per_parameter(self) -> float:
        return self.tokens / self.parameters

    @property
    def saved(self) -> float:
        """Share of the compute-optimal model's lifetime compute."""
        return 1 - self.flops / self.compute_optimal_flops


def inference_aware(surface: Parametric, loss: float, served: float) -> Lifetime:
    """The parameters and tokens that reach a loss with the least lifetime_flops.

    Along equal loss, tokens rise as parameters fall; the minimum is where
    (alpha A / N^alpha) / (beta B / D^beta) = 1 + D_inf / (3 D), which rises from 1 at the compute optimum to infinity
    at the smallest model that can reach the loss at all. Source: Sardana et al. 2024, section 3.
    """
    s = surface
    most = parametric_parameters(s.flops_for(loss), s.a, s.b, s.alpha, s.beta)
    least = (s.a / (loss - s.e)) ** (1 / s.alpha)

    def tokens_at(parameters: float) -> float:
        rest = loss - s.e - s.a / parameters**s.alpha
        return float((s.b / rest) ** (1 / s.beta)) if rest > 0 else float("inf")

    def too_large(parameters: float) -> float:
        tokens = tokens_at(parameters)
        if tokens > 1e100:
            return -1.0  # the loss is out of reach of so small a model
        gains = float(s.alpha * s.a / parameters**s.alpha * tokens**s.beta / (s.beta * s.b))
        return 1 + served / (3 * tokens) - gains

    parameters = bisect(too_large, least, most)
    best = lifetime_flops(parameters, tokens_at(parameters), served)
    optimal = lifetime_flops(most, tokens_at(most), served)
    return Lifetime(parameters, tokens_at(parameters), min(best, optimal), loss, optimal)
