"""Feed-forward blocks: gated (three matrices) and plain (two)."""

from dataclasses import dataclass
from typing import Any

from memcalc.blocks.ledger import Weight, linear

# Activations that learn something themselves: single numbers, one tensor each.
LEARNED = {"xielu": ("alpha_p", "alpha_n")}


@dataclass(frozen=True)
class MLP:
    """down(act(gate(x)) * up(x)) when gated, else down(act(up(x)))."""

    hidden: int
    intermediate: int
    gated: bool = True
    bias: bool = False
    down_bias: bool | None = None  # default: as `bias`
    activation: str = "silu"
    fused: bool = False  # gate and up in one matrix (Phi-3, GLM)
    transposed: bool = False  # GPT-2's Conv1D keeps [inputs, outputs]
    dropout: float = 0.0  # after the down projection
    role: str = "mlp"

    def weights(self) -> tuple[Weight, ...]:
        pieces = (self.intermediate, 1)
        first: dict[str, Any] = {"bias": self.bias, "cut": "outputs", "transposed": self.transposed}
        if self.gated and self.fused:
            out = linear(
                "gate_up", self.role, self.hidden, 2 * self.intermediate, **first, sections=(pieces, pieces)
            )
        elif self.gated:
            out = linear("gate", self.role, self.hidden, self.intermediate, **first)
            out += linear("up", self.role, self.hidden, self.intermediate, **first)
        else:
            out = linear("up", self.role, self.hidden, self.intermediate, **first)
        out += tuple(Weight(name, self.role, (1,)) for name in LEARNED.get(self.activation, ()))
        bias = self.bias if self.down_bias is None else self.down_bias
        return out + linear(
            "down", self.role, self.intermediate, self.hidden, bias=bias, cut="inputs", transposed=self.transposed
        )
