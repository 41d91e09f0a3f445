"""FSDP2 and tensor parallelism beside PyTorch's count: one rank of a step under fake tensors and a fake process group (marked
torch)."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pytest

from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training
from memcalc.trace.allocations import GRANULE, Allocations
from memcalc.trace.cuda_like import cuda_functions, cuda_like
from memcalc.trace.libraries import libraries
from memcalc.trace.model import build

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 6, "num_attention_heads": 16,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 1024, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip
LARGE: dict[str, Any] = {**LLAMA, "vocab_size": 32768}
TIED: dict[str, Any] = {**LARGE, "tie_word_embeddings": True}
WIDE: dict[str, Any] = {**LARGE, "hidden_size": 2048, "intermediate_size": 8192, "head_dim": 128}
SHORT, LONG = {"micro_batch": 1, "seq_len": 128}, {"micro_batch": 4, "seq_len": 1024}
MOMENTS = ("steady", "after_forward", "peak_forward_backward", "peak_optimizer_step")


class Book(Allocations):
    """Also storages that grow and shrink, as FSDP's gathered parameters do."""

    paused = 0

    @contextmanager
    def watching(self, torch: Any) -> Iterator[None]:
        from torch._subclasses.fake_tensor import FakeTensor
        from torch.distributed.tensor import _sharding_prop
        from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass_type
        from torch.utils._pytree import tree_leaves

        book, plain = self, (FakeTensor, torch.Tensor, torch.nn.Parameter)
        resize, propagator = torch.UntypedStorage.resize_, _sharding_prop.ShardingPropagator
        propagate = propagator._propagate_tensor_meta_non_cached

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if any(kind not in plain and is_traceable_wrapper_subclass_type(kind) for kind in types):
                    return NotImplemented  # a DTensor's own operations follow
                out = func(*args, **(kwargs or {}))
                for leaf in tree_leaves(out):
                    if isinstance(leaf, torch.Tensor) and not book.paused:
                        book.see(leaf, func.name())
                return out

        def resized(storage: Any, size: int) -> Any:
            out, key = resize(storage, size), storage._cdata
            if key in book._storages:
                number, before = book._storages[key]
                now = -(-size // GRANULE) * GRANULE
                book._storages[key] = (number, before._replace(bytes=now))
                book.live += now - before.bytes
                book.peak = max(book.peak, book.live)
            return out

        def propagated(*args: Any) -> Any:  # shapes of whole tensors, asked of fake ones: nothing is allocated
            book.paused += 1
            try:
                return propagate(*args)
            finally:
                book.paused -= 1

        torch.UntypedStorage.resize_, propagator._propagate_tensor_meta_non_cached = resized, propagated
        try:
            with Watch():
                yield
        finally:
            torch.UntypedStorage.resize_, propagator._propagate_tensor_meta_non_cached = resize, propagate

    def see(self, tensor: Any, operation: str = "") -> None:
        super().see(getattr(tensor, "_local_tensor", getattr(tensor, "elem", tensor)), operation)


def tensor_parallel(model: Any, mesh: Any) -> None:
    """As torchtitan cuts a Llama (torchtitan/models/llama3/parallelize.py), with sequence parallelism and a parallel loss."""
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor import parallel as tp

    rows, columns, stream = tp.RowwiseParallel(output_layouts=Shard(1)), tp.ColwiseParallel(), Shard(1)
    tp.parallelize_module(model, mesh, {
        "model.embed_tokens": tp.RowwiseParallel(input_layouts=Replicate(), output_layouts=stream),
        "model.norm": tp.SequenceParallel(use_local_output=True),
        "lm_head": tp.ColwiseParallel(input_layouts=stream, output_layouts=Shard(-1), use_local_output=False),
    })  # fmt: skip
    hidden = {"input_kwarg_layouts": {"hidden_states": stream}, "desired_input_kwarg_layouts": {"hidden_states": Replicate()}}
    for layer in model.model.layers:
        tp.parallelize_module(layer, mesh, {
            "input_layernorm": tp.SequenceParallel(), "post_attention_layernorm": tp.SequenceParallel(),
            "self_attn": tp.PrepareModuleInput(**hidden),
            **{f"self_attn.{name}_proj": columns for name in "qkv"}, "self_attn.o_proj": rows,
            "mlp": tp.PrepareModuleInput(input_layouts=(stream,), desired_input_layouts=(Replicate(),)),
            "mlp.gate_proj": columns, "mlp.up_proj": columns, "mlp.down_proj": rows,
        })  # fmt: skip


def sharded(torch: Any, model: Any, mesh: Any, run: Training) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mixed = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    how = {"mesh": mesh, "reshard_after_forward": run.parallelism.fsdp != "grad-op"}
    if run.precision == "bf16-mixed":
        how["mp_policy"] = mixed
    for layer in model.model.layers:
        fully_shard(layer, **how)
    fully_shard(model, **how)


def traced(values: dict[str, Any], run: Training) -> dict[str, int]:
    """The second step of rank 0."""
    torch = libraries().torch
    from torch import distributed
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed.tensor.parallel import loss_parallel
    from torch.testing._internal.distributed.fake_pg import FakeStore

    p, book, kernels = run.parallelism, Book(), Counter[str]()
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=p.gpus)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (p.gpus // p.tp, p.tp), mesh_dim_names=("dp", "tp"))
        model = build(values, half=run.precision == "bf16", attention=run.attention)
        model.train()
        if run.recompute == "full":
            contexts = {"context_fn": lambda: (nullcontext(), cuda_functions(kernels))}
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, **contexts})
        if p.tp > 1:
            tensor_parallel(model, mesh["tp"])
        sharded(torch, model, mesh["dp"], run)
        with ExitStack() as stack:
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            stack.enter_context(_functions(kernels))
            stack.enter_context(torch.device("cpu"))
            model.to_empty(device="cpu")
            model.tie_weights()
            optimizer = torch.optim.AdamW(model.parameters(), **{run.optimizer_impl_used: True})
            for tensor in (*model.parameters(), *model.buffers()):
                book.see(tensor)
            positions = torch.arange(run.seq_len)[None]
            stack.enter_context(book.watching(torch))
            stack.enter_context(loss_parallel() if p.tp > 1 else nullcontext())
            for _ in range(2):
                steady = book.live
                ids = torch.randint(0, 2, (run.micro_batch, run.seq_len))
                book.restart_peak()
                for _ in range(run.grad_accum):
                    loss = model(input_ids=ids, labels=ids, position_ids=positions).loss
                    after_forward = book.live
                    loss.backward()
                    del loss
                peak = book.peak
                book.restart_peak()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                del ids
        return dict(zip(MOMENTS, (steady, after_forward, peak, book.peak), strict=True))
    finally:
        distributed.destroy_process_group()


@contextmanager
def _functions(kernels: Counter[str]) -> Iterator[None]:
    """As on a CUDA device, but for what is decided below DTensor."""
    from memcalc.trace import cuda_like as module

    before, module._dispatch_mode = module._dispatch_mode, nullcontext
    try:
        with cuda_like(kernels):
            yield
    finally:
        module._dispatch_mode = before


def check(values: dict[str, Any], bound: float, parallelism: dict[str, Any], **settings: Any) -> None:
    """All moments within a bound of the trace."""
    run = Training(**{"precision": "bf16-mixed", **settings}, parallelism=Parallelism(gpus=8, **parallelism))
    found, counted = estimate(read_config(values), run), traced(values, run)
    for name in MOMENTS:
        ours, theirs = getattr(found, name), counted[name]
        assert abs(ours / theirs - 1) <= bound, f"{name}: {ours} here, {theirs} traced ({found.highest.name})"


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("batch", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("strategy", ["full", "grad-op"])
@pytest.mark.parametrize("values", [LLAMA, LARGE, TIED, WIDE], ids=["small", "large vocabulary", "tied", "wide"])
def test_fsdp(values: dict[str, Any], strategy: str, batch: dict[str, int], recompute: str) -> None:
    """Prefetched and gathered layers, gradients in reduction, the root's at the end."""
    check(values, 0.005, {"fsdp": strategy}, recompute=recompute, optimizer_impl="foreach", **batch)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("values", [LLAMA, LARGE], ids=["small", "large vocabulary"])
def test_fsdp_over_micro_batches(values: dict[str, Any], batch: dict[str, int]) -> None:
    """Shards of earlier ones stand; a layer's gradients are whole until they are reduced, all the same."""
    check(values, 0.005, {"fsdp": "full"}, recompute="full", grad_accum=2, **batch)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("batch", [SHORT, LONG], ids=["short", "long"])
def test_fsdp_in_other_formats(batch: dict[str, int], precision: str) -> None:
    check(LARGE, 0.005, {"fsdp": "full"}, precision=precision, **batch)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("batch", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("tp", [2, 4])
@pytest.mark.parametrize("values", [LLAMA, LARGE], ids=["small", "large vocabulary"])
def test_fsdp_beside_tensor_parallelism(values: dict[str, Any], tp: int, batch: dict[str, int], recompute: str) -> None:
    """Norms and residuals by tokens, and a loss over each rank's share of the vocabulary. Where that is next to nothing the
    peak is in the last layer's forward, which is no moment here."""
    check(
        values,
        0.005 if values is LARGE else 0.01,
        {"fsdp": "full", "tp": tp, "sequence_parallel": True},
        recompute=recompute,
        **batch,
    )
