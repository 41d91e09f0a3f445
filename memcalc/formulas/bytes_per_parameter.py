"""The rule of thumb: bytes per parameter by precision and optimizer."""

from memcalc.formulas.formula import ESTIMATE, formula
from memcalc.frozen import NamedTuple


class BytesPerParameter(NamedTuple):
    """One row of the rule of thumb, all in bytes per parameter."""

    weights: float
    gradients: float
    optimizer_states: float
    master_weights: float
    activations: float

    @property
    def store(self) -> float:
        return self.weights

    @property
    def extra(self) -> float:
        """What training adds to storing."""
        return self.gradients + self.optimizer_states + self.master_weights + self.activations

    @property
    def train(self) -> float:
        return self.store + self.extra


@formula("coursera-2023", "8 bytes (high estimate) at fp32; half of it when activations are 16 bit", ESTIMATE)
def activation_bytes_per_parameter(compute_bytes: float) -> float:
    """Activations and temporaries per parameter, when nothing else is known.

    2 × compute_bytes      compute_bytes [B] of one element of the compute format. Returns bytes [B] per parameter.

    >>> activation_bytes_per_parameter(compute_bytes=4)
    8
    """
    return 2 * compute_bytes
