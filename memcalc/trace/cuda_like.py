"""Fake tensors live on the CPU; this makes their operations allocate what CUDA's would.

Eight things differ, and all are undone when the context ends: which kernel scaled_dot_product_attention takes, dropout (one
fused operation that returns its mask), rms_norm (one kernel on CUDA, see COMPOSED), the operations that autocast runs in fp32,
the statistics of a 16-bit LayerNorm (fp32 on CUDA), grouped matrix products (any type on CUDA), the sums of gather's and
index_select's backwards (in place but for tensors of a subclass), and fla's kernels (memcalc.trace.fla). Besides, questions
that need a tensor's values are answered: no packed sequences, no padding, no layer dropped.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from memcalc.trace import fla

# ATen/autocast_mode.h, AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE: what language models use of them
AUTOCAST_FP32 = frozenset(
    [
        "__pow__",
        "__rpow__",
        "acos",
        "asin",
        "binary_cross_entropy_with_logits",
        "cosh",
        "cosine_similarity",
        "cross_entropy",
        "cumprod",
        "cumsum",
        "dist",
        "exp",
        "expm1",
        "group_norm",
        "kl_div",
        "l1_loss",
        "layer_norm",
        "log",
        "log10",
        "log1p",
        "log2",
        "log_softmax",
        "logsumexp",
        "mse_loss",
        "nll_loss",
        "norm",
        "pow",
        "prod",
        "reciprocal",
        "rms_norm",
        "rsqrt",
        "sinh",
        "smooth_l1_loss",
        "softmax",
        "softplus",
        "sum",
        "tan",
    ]
)
MAX_FLASH_HEAD = 256  # sdp_utils.cpp, check_head_dim_size_flash
# Operations that a build without CUDA composes of elementary ones where CUDA has a kernel (native_functions.yaml: a
# CompositeImplicitAutograd beside CUDA). Fake CPU tensors take the two backwards as the one operation they are.
COMPOSED = frozenset(["silu_backward", "mish_backward", "_fused_rms_norm"])


@contextmanager
def cuda_like(kernels: Counter[str]) -> Iterator[None]:
    """Run what is inside as on a CUDA device; `kernels` counts the attention kernels that are chosen."""
    import torch
    from transformers import masking_utils

    enabled = torch.is_autocast_enabled
    with ExitStack() as stack:
        # without an argument the question is about CUDA (Nemotron's norm asks it)
        stack.enter_context(_replaced(torch, "is_autocast_enabled", lambda device="cpu": enabled(device)))
        stack.enter_context(_replaced(masking_utils, "find_packed_sequence_indices", lambda *args, **kwargs: None))
        for name in ("_ignore_causal_mask_sdpa", "_ignore_bidirectional_mask_sdpa"):
            stack.enter_context(_replaced(masking_utils, name, _unpadded(getattr(masking_utils, name))))
        for module in [module for name, module in sys.modules.items() if name.startswith("transformers.models.")]:
            if fla.NAME in vars(module):
                stack.enter_context(_replaced(module, fla.NAME, fla.chunk_kda))
        stack.enter_context(cuda_functions(kernels))
        stack.enter_context(_dispatch_mode())
        yield


def _unpadded(ignores: Callable[..., bool]) -> Callable[..., bool]:
    """A mask that a model makes itself has no padding, which a fake tensor cannot say."""
    return lambda padding_mask, *args, **kwargs: ignores(None, *args, **kwargs)


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of a module, for as long as the context lasts."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def cuda_functions(kernels: Counter[str]) -> Any:
    """What is decided above autograd: attention kernel, dropout, autocast. The backward runs outside of such a context, so
    what a backward recomputes has to enter it again."""
    import torch
    from torch.overrides import TorchFunctionMode

    replaced: dict[str, Callable[..., Any]] = {
        "scaled_dot_product_attention": lambda *args, **kwargs: _attention(kernels, *args, **kwargs),
        "dropout": _dropout,
        "rms_norm": _rms_norm,
        "rand": _rand,
    }

    class CudaFunctions(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name, kwargs = getattr(func, "__name__", ""), kwargs or {}
            if name in replaced:
                return replaced[name](*args, **kwargs)
            if name in AUTOCAST_FP32 and torch.is_autocast_enabled("cpu"):
                with torch.autocast("cpu", enabled=False):
                    return func(*map(_upcast, args), **{key: _upcast(value) for key, value in kwargs.items()})
            return func(*args, **kwargs)

    return CudaFunctions()


def _upcast(value: Any) -> Any:
    import torch

    return value.float() if isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16) else value


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    import torch

    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


def _rms_norm(input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """One kernel, which keeps its input and the fp32 reciprocal of its root mean square; autocast runs it in fp32."""
    import torch

    rank = len(normalized_shape)
    if torch.is_autocast_enabled("cpu"):
        input, weight = _upcast(input), _upcast(weight)

    class FusedRMSNorm(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, scale: Any) -> Any:
            reciprocal = x.new_empty((*x.shape[: x.dim() - rank], *[1] * rank), dtype=torch.float32)
            ctx.save_for_backward(x, scale, reciprocal)
            return torch.empty_like(x)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            x, scale, _ = ctx.saved_tensors
            return torch.empty_like(x), None if scale is None else torch.empty_like(scale)

    return FusedRMSNorm.apply(input, weight)


def _rand(*size: Any, **kwargs: Any) -> Any:
    """A scalar is a question whether to drop a layer (OPT's layerdrop): the answer is no."""
    import torch

    return 1.0 if size and size[0] == [] else torch.rand(*size, **kwargs)


def _attention(
    kernels: Counter[str],
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """The kernel that CUDA's dispatcher takes (sdp_utils.cpp): flash for 16-bit tensors without a mask; memory-efficient where
    heads are not grouped; the elementary operations else."""
    import torch

    if torch.is_autocast_enabled("cpu"):
        lower = torch.get_autocast_dtype("cpu")
        query, key, value, attn_mask = (
            x.to(lower) if x is not None and x.dtype == torch.float32 else x for x in (query, key, value, attn_mask)
        )
    half = query.dtype in (torch.bfloat16, torch.float16)
    same_width = query.shape[-1] == value.shape[-1] <= MAX_FLASH_HEAD
    aten = torch.ops.aten
    with torch.autocast("cpu", enabled=False):
        if half and attn_mask is None and same_width:
            kernels["flash"] += 1
            return aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
        if query.shape[1] == key.shape[1]:
            kernels["memory-efficient"] += 1
            bias = _as_bias(attn_mask, query, key)
            return aten._scaled_dot_product_efficient_attention(
                query, key, value, bias, True, dropout_p, is_causal, scale=scale
            )[0]
        kernels["elementary operations"] += 1
        return aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
        )[0]


def _as_bias(mask: Any, query: Any, key: Any) -> Any:
    """A mask as the memory-efficient kernel wants it: added to the scores, one for every head."""
    import torch

    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask.logical_not(), -float("inf"))
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])


def _dispatch_mode() -> Any:
    """What is decided below autograd: types that kernels return or accept."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    layer_norm, grouped_mm = torch.ops.aten.native_layer_norm.default, torch.ops.aten._grouped_mm.default
    aten = torch.ops.aten
    in_place = {
        aten.scatter_add.default: (aten.scatter_add_.default, "GatherBackward0"),
        aten.index_add.default: (aten.index_add_.default, "IndexSelectBackward0"),
    }

    class CudaKernels(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is layer_norm:
                out, mean, deviation = func(*args, **kwargs)
                return out, mean.float(), deviation.float()
            if func is grouped_mm and args[0].dtype == torch.float32:  # the fake kernel knows bf16 only
                return func(args[0].bfloat16(), args[1].bfloat16(), *args[2:], **kwargs).float()
            if func in in_place and _in_backward_of(*in_place[func][1:]):
                return in_place[func][0](*args, **kwargs)
            return func(*args, **kwargs)

    return CudaKernels()


def _in_backward_of(name: str) -> bool:
    """Whether autograd is running such a node: for tensors of a subclass, the backwards of gather and index_select add out of
    place what they add in place else (gather_backward, index_select_backward_symint; isTensorSubclassLike)."""
    import torch

    node = torch._C._current_autograd_node()
    return node is not None and node.name() == name
