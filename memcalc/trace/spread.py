"""Loops over the experts that tokens chose, which fake tensors cannot say: every expert gets as many as every other."""

from collections.abc import Callable
from types import MethodType
from typing import Any


def spread_evenly(model: Any) -> None:
    """Replace the loop of each module that has one."""
    for module in model.modules():
        if loop := LOOPS.get(type(module).__name__):
            module.forward = MethodType(loop, module)
        if method := METHODS.get(type(module).__name__):
            setattr(module, method[0], MethodType(method[1], module))


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


def _privacy_filter(self: Any, hidden_states: Any, router_indices: Any, routing_weights: Any) -> Any:
    """modeling_openai_privacy_filter.OpenAIPrivacyFilterExperts.forward, likewise."""
    import torch

    result = torch.zeros_like(hidden_states, dtype=torch.float32)
    chosen = torch.zeros(*router_indices.shape, self.num_experts, dtype=torch.int64)  # one_hot
    for expert in range(self.num_experts):
        found = torch.zeros(router_indices.numel() // self.num_experts, 2, dtype=torch.int64)
        rank, token = found.unbind(1)
        state = hidden_states[token]
        both = state.float() @ self.gate_up_proj[expert].float() + self.gate_up_proj_bias[expert].float()
        gated = self._apply_gate(both).float()
        out = gated.float() @ self.down_proj[expert].float() + self.down_proj_bias[expert].float()
        weighted = out * routing_weights[token, rank, None].float()
        result.index_add_(0, token, weighted)
    del chosen
    return result.to(hidden_states.dtype)


def _pools(self: Any, packed_states: Any) -> tuple[Any, Any, Any]:
    """modeling_glm5_next.Glm5NextTextIndexer.get_pooled_states, all of whose pools are whole."""
    import torch

    keys, gates, _ = torch.split(packed_states, [self.head_dim, self.head_dim, 1], dim=-1)
    batch, length = keys.shape[:2]
    pools = -(-length // self.index_kpool)
    indices = torch.zeros(batch, pools, self.index_kpool, dtype=torch.long)
    grouped, logits = (x[:, : pools * self.index_kpool].view(batch, pools, self.index_kpool, -1) for x in (keys, gates))
    pooled = (logits.float().softmax(dim=2).to(keys.dtype) * grouped).sum(dim=2)
    return pooled, indices, torch.ones(batch, pools, dtype=torch.bool)


# class → what stands for its forward, or for a method that it calls
LOOPS: dict[str, Callable[..., Any]] = {"DbrxExperts": _dbrx, "OpenAIPrivacyFilterExperts": _privacy_filter}
METHODS: dict[str, tuple[str, Callable[..., Any]]] = {"Glm5NextTextIndexer": ("get_pooled_states", _pools)}
