"""What fla's kernels allocate, for modules that call them: fake tensors cannot run Triton."""

from typing import Any

NAME = "chunk_kimi_delta_attention"  # transformers' own, which takes fla's chunk_kda where it is installed


def chunk_kda(
    query: Any, key: Any, value: Any, g: Any, beta: Any, chunk_size: int = 64, **ignored: Any
) -> tuple[Any, None]:  # fmt: skip
    """fla/ops/kda/chunk.py, ChunkKDAFunction, with unit lengths in the kernel and its gradients recomputed."""
    import torch

    def fp32(like: Any, *shape: int) -> Any:
        return like.new_empty(*(shape or like.shape), dtype=torch.float32)

    class ChunkKDA(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: Any, k: Any, v: Any, g: Any, beta: Any) -> Any:
            q, k, v, g, beta = (x.contiguous() for x in (q, k, v, g, beta))  # input_guard
            q, k = q.new_empty(q.shape), k.new_empty(k.shape)
            lengths = [fp32(x, *x.shape[:-1]) for x in (q, k)]
            summed = fp32(g)
            matrices = [k.new_empty(*k.shape[:-1], chunk_size) for _ in range(2)]
            ctx.save_for_backward(q, k, v, *lengths, g, summed, beta, *matrices)
            return torch.empty_like(v)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            q, k, v, _, _, g, _, beta, _, _ = ctx.saved_tensors
            batch, length, heads, width = k.shape
            again = [torch.empty_like(x) for x in (k, v, q, k)]  # recompute_w_u_fwd
            chunks = -(-length // chunk_size)
            memory = [k.new_empty(batch, chunks, heads, width, v.shape[-1]) for _ in range(1)]
            again.append(torch.empty_like(v))  # new values
            pairs = [fp32(v, batch, length, heads, chunk_size)]
            dv = torch.empty_like(gradient)
            memory.append(torch.empty_like(memory[0]))
            dv = torch.empty_like(dv)  # chunk_gated_delta_rule_bwd_dhu
            dq, dk = fp32(q), fp32(k)  # chunk_kda_bwd_wy_dqkg_fused
            dv, dg, db = torch.empty_like(v), fp32(g), fp32(beta)
            pairs.append(fp32(v, batch, length, heads, chunk_size))
            dq2, dk2, parts, dg2 = fp32(dq), fp32(dk), fp32(beta, -(-width // 32), *beta.shape), fp32(dg)
            dq, dk, db, dg = dq2, dk2, fp32(db), dg2  # chunk_kda_bwd_intra
            del dq2, dk2, parts, dg2
            dg = fp32(dg)  # chunk_local_cumsum
            del again, memory, pairs
            dq, dk = torch.empty_like(q), torch.empty_like(k)  # l2norm_bwd
            return dq, dk, dv, dg.to(g.dtype), db.to(beta.dtype)

    return ChunkKDA.apply(query, key, value, g, beta), None
