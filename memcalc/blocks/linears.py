"""Which weights are linear layers, the only ones that libraries quantise."""

from memcalc.blocks.ledger import Shape

# Roles whose matrices libraries quantise.
QUANTISED_ROLES = ("attention", "linear-attention", "state-space", "mlp", "experts")
# Tensors of these roles with two dimensions or more that are no linear layers: convolutions, tables, decays, routers.
NOT_LINEAR = (
    "conv", "A_log", "positions", "sinks", "relative_bias", "correction_coefs", "prediction_coefs", "modality_router",
    "input_gate", "recurrence_gate", "projection",
)  # fmt: skip


def leaf(path: str) -> str:
    """The last name of a path."""
    return path.rpartition("/")[2]


def is_linear(path: str, role: str, shape: Shape) -> bool:
    """Whether a layer's tensor is the matrix of a linear layer, one matrix or a stack of experts'."""
    name = leaf(path)
    dimensions = (2, 3) if role == "experts" else (2,)
    return role in QUANTISED_ROLES and len(shape) in dimensions and name not in NOT_LINEAR and not name.endswith(".bias")
