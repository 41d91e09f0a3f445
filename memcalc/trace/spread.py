"""Loops over the experts that tokens chose, which fake tensors cannot say: every expert gets as many as every other."""

from collections.abc import Callable
from types import MethodType
from typing import Any


def spread_evenly(model: Any) -> None:
    """Replace the loop of each module that has one."""
    for module in model.modules():
        if loop := LOOPS.get(type(module).__name__):
            module.forward = MethodType(loop, module)


def _dbrx(self: Any, hidden_states: Any, top_k_index: Any, top_k_weights: Any) -> Any:
    """modeling_dbrx.DbrxExperts.forward, with what `where` would return for an even spread."""
    import torch

    batch = hidden_states.shape[0]
    hidden_states = hidden_states.reshape(-1, self.hidden_size)
    result = torch.zeros_like(hidden_states)
    chosen = torch.zeros(*top_k_index.shape, self.num_experts + 1, dtype=torch.int64)  # one_hot
    for expert in range(self.num_experts):
        found = torch.zeros(top_k_index.numel() // self.num_experts, 2, dtype=torch.int64)
        rank, token = found.unbind(1)
        matrices = (self.mlp.v1, self.mlp.w1, self.mlp.w2)
        up, gate, down = (matrix.view(-1, self.ffn_hidden_size, self.hidden_size)[expert] for matrix in matrices)
        states = self.mlp(hidden_states[token], gate, up, down)
        states = states.view(-1, self.hidden_size) * top_k_weights[token, rank, None]
        result.index_add_(0, token, states)
    del chosen
    return result.view(batch, -1, self.hidden_size)


LOOPS: dict[str, Callable[..., Any]] = {"DbrxExperts": _dbrx}
