"""Compute-optimal mixtures of experts, by the granularity of their experts."""

from memcalc.formulas.compute_optimal import bisect
from memcalc.formulas.formula import ESTIMATE, formula
from memcalc.formulas.law_forms import Point
from memcalc.frozen import dataclass

GRANULARITIES = (1, 2, 4, 8, 16, 32, 64)
_SMALLEST, _LARGEST = 1e-30, 1e60


@formula("krajewski-2024", "equation 9", ESTIMATE)
def granular_loss(
    parameters: float,
    tokens: float,
    granularity: float,
    c: float,
    g: float,
    gamma: float,
    a: float,
    b: float,
    alpha: float,
    beta: float,
) -> float:
    """Loss of a mixture of experts whose experts are `granularity` times narrower than the dense feed-forward layer.

    L = c + (g / G^gamma + a) / N^alpha + b / D^beta

    parameters [count] in all, without embeddings; tokens [count]. Returns loss [nats per token].

    >>> round(granular_loss(1.6e9, 16e9, 8, 0.47, 2.1, 0.58, 18.1, 30.8, 0.115, 0.147), 3)
    3.081
    """
    return c + (g * granularity**-gamma + a) * parameters**-alpha + b * tokens**-beta  # type: ignore[no-any-return]


@formula("krajewski-2024", "equation 10 and appendix E", ESTIMATE)
def granular_flops(model: float, blocks: float, tokens: float, expansion: float, granularity: float) -> float:
    """Compute to train it: 6 FLOP per active parameter and token, and 14 per parameter of the router.

    (12 × d² × 6 + d × E × G × 14) × D × blocks

    model [elements] = d, tokens [count], expansion = E, granularity = G. Returns compute [FLOP].

    >>> f"{granular_flops(model=1747, blocks=27.3, tokens=28.94e9, expansion=64, granularity=16):.3g}"  # table 2: 1.93e20
    '1.93e+20'
    """
    return (12 * model**2 * 6 + model * expansion * granularity * 14) * tokens * blocks


@dataclass(frozen=True)
class GranularExperts:
    """Krajewski's surface and compute, with their ratio of width to depth: d = 64 × blocks."""

    c: float
    g: float
    gamma: float
    a: float
    b: float
    alpha: float
    beta: float
    expansion: int = 64

    def at_flops(self, flops: float) -> Point:
        """The granularity, size and tokens of the lowest loss."""
        return min((self._at_flops(flops, granularity) for granularity in GRANULARITIES), key=lambda point: point.loss or 0.0)

    def at_parameters(self, parameters: float) -> Point:
        return self._best([self._point(parameters, self._tokens(parameters, g), g) for g in GRANULARITIES])

    def at_tokens(self, tokens: float) -> Point:
        found = []
        for g in GRANULARITIES:
            parameters = bisect(lambda n, g=g: self._tokens(n, g) - tokens, _SMALLEST, _LARGEST)  # type: ignore[misc]
            found.append(self._point(parameters, tokens, g))
        return self._best(found)

    def loss(self, parameters: float, tokens: float) -> None:
        """Needs the granularity too."""

    def _at_flops(self, flops: float, granularity: int) -> Point:
        parameters = bisect(lambda n: self._flops(n, self._tokens(n, granularity), granularity) - flops, _SMALLEST, _LARGEST)
        return self._point(parameters, flops / self._flops(parameters, 1.0, granularity), granularity)

    def _best(self, points: list[Point]) -> Point:
        """The first, by granularity, that half and twice its granularity do not beat for the same compute."""
        for number, point in enumerate(points):
            others = [GRANULARITIES[n] for n in (number - 1, number + 1) if 0 <= n < len(GRANULARITIES)]
            if all((self._at_flops(point.flops, other).loss or 0.0) >= (point.loss or 0.0) for other in others):
                return point
        return points[-1]

    def _tokens(self, parameters: float, granularity: int) -> float:
        """Tokens at which one more parameter in a thousand brings as much, for its compute, as one more token in a thousand."""
        main, routing = (self._flops(parameters, 1.0, g) for g in (0, granularity))
        routing -= main
        share = (main + routing * 2 / 3) / (main + routing)  # of width and depth: the router grows as N^(2/3)
        gain = self.alpha * (self.g / granularity**self.gamma + self.a) / parameters**self.alpha
        return float((share * self.beta * self.b / gain) ** (1 / self.beta))

    def _shape(self, parameters: float) -> tuple[float, float]:
        """Width and blocks of N = d² × (8E + 4) × blocks parameters."""
        blocks = (parameters / (64**2 * (8 * self.expansion + 4))) ** (1 / 3)
        return 64 * blocks, blocks

    def _flops(self, parameters: float, tokens: float, granularity: int) -> float:
        model, blocks = self._shape(parameters)
        return granular_flops(model, blocks, tokens, self.expansion, granularity)

    def _point(self, parameters: float, tokens: float, granularity: int) -> Point:
        model, blocks = self._shape(parameters)
        surface = (self.c, self.g, self.gamma, self.a, self.b, self.alpha, self.beta)
        loss = granular_loss(parameters, tokens, granularity, *surface)
        active = 12 * model**2 * blocks
        return Point(parameters, tokens, self._flops(parameters, tokens, granularity), loss, active, granularity)
