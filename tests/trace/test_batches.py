"""What stays of a pass though no backward needs it, tiled feed-forwards, evaluation: beside PyTorch's count (marked torch)."""

import types
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from math import ceil
from typing import Any, NamedTuple

import pytest

from memcalc.estimates.training.estimate import TrainingEstimate, estimate
from memcalc.readers.hf import read_config
from memcalc.readers.hf.tasks import under_objective
from memcalc.specs.training import Training
from memcalc.trace.allocations import Allocations, watching
from memcalc.trace.cuda_like import cuda_functions, cuda_like
from memcalc.trace.libraries import libraries
from memcalc.trace.model import build

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4, "num_attention_heads": 16,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 16384, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False, "hidden_act": "gelu",
}  # fmt: skip


class Traced(NamedTuple):
    """Bytes at the moments of a step, and at the peak of the evaluation after it."""

    after_forward: int
    peak_forward_backward: int
    evaluation: int


def traced(values: dict[str, Any], run: Training) -> Traced:
    """The second step of a model under fake tensors, as memcalc.trace.step has it, with what `run` keeps beside."""
    torch = libraries().torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    kernels: Counter[str] = Counter()
    book = Allocations()
    model = build(values, half=run.precision == "bf16", attention=run.attention)
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(cuda_like(kernels))
        stack.enter_context(torch.device("cpu"))
        model.to_empty(device="cpu")
        model.tie_weights()
        model.train()
        if run.tiled_mlp:
            tile(torch, model, run)
        if run.recompute == "full":
            checkpointed(torch, model, kernels)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        for tensor in (*model.parameters(), *model.buffers()):
            book.see(tensor)
        stack.enter_context(watching(book))
        for _ in range(2):
            ids = torch.randint(0, 2, (run.micro_batch, run.seq_len))
            book.restart_peak()
            output = model(input_ids=ids, labels=ids, use_cache=run.use_cache)
            loss = output.loss
            if not run.keep_output:
                del output
            after_forward = book.live
            loss.backward()
            output = loss = None
            peak = book.peak
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            del ids
        book.restart_peak()
        if run.eval_batch:
            evaluate(torch, model, run)
        return Traced(after_forward, peak, book.peak)


def evaluate(torch: Any, model: Any, run: Training) -> None:
    """As Trainer.evaluation_loop collects logits on one GPU."""
    model.eval()
    kept = None
    for _ in range(run.eval_accumulation):
        ids = torch.randint(0, 2, (run.eval_batch, run.seq_len))
        with torch.no_grad():
            output = model(input_ids=ids, labels=ids, use_cache=True)  # the default of decoders
        logits = output.logits.detach()
        del output
        kept = logits if kept is None else torch.cat((kept, logits))
        del logits, ids


def checkpointed(torch: Any, model: Any, kernels: Counter[str]) -> None:
    """Layers recomputed from outside, by torch.utils.checkpoint: transformers' own way switches the cache off."""
    from torch.utils.checkpoint import checkpoint

    for layer in model.model.layers:
        plain = layer.forward

        def forward(*args: Any, plain: Callable[..., Any] = plain, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return plain(*args, **kwargs)
            contexts = lambda: (nullcontext(), cuda_functions(kernels))  # noqa: E731
            return checkpoint(plain, *args, use_reentrant=False, context_fn=contexts, **kwargs)

        layer.forward = forward


def tile(torch: Any, model: Any, run: Training) -> None:
    """Feed-forwards as an autograd function over tiles, which keeps its input (what DeepSpeed's TiledMLP allocates)."""

    class Tiled(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, fn: Any, x: Any, tiles: int) -> Any:
            ctx.fn, ctx.tiles = fn, tiles
            ctx.save_for_backward(x)
            with torch.no_grad():
                parts = [fn(part) for part in torch.chunk(x, tiles, dim=-2)]
            return torch.cat(parts, dim=-2)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            (x,) = ctx.saved_tensors
            width = x.shape[-1]
            flat, incoming = x.detach().view(-1, width), grads[0].view(-1, width)
            result = torch.zeros_like(flat)
            start = 0
            for part in torch.chunk(flat, ctx.tiles, dim=0):
                part.requires_grad_(True)
                part.grad = result.narrow(0, start, len(part)).view_as(part)
                with torch.enable_grad():
                    out = ctx.fn(part)
                torch.autograd.backward(out, incoming.narrow(0, start, len(part)).view_as(out))
                start += len(part)
                del out
            return None, result.view_as(x), None

    tiles = run.mlp_tiles or ceil(run.seq_len / model.config.hidden_size)
    for layer in model.model.layers:
        plain = layer.mlp.forward
        layer.mlp.forward = types.MethodType(lambda self, x, plain=plain: Tiled.apply(plain, x, tiles), layer.mlp)


def highest(found: TrainingEstimate) -> int:
    """Of the evaluation."""
    return max(alive.allocated for alive in found.alive if alive.moment.name.startswith("evaluation"))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", [
    {"keep_output": True},
    {"keep_output": True, "use_cache": True},
    {"use_cache": True},
    {"keep_output": True, "use_cache": True, "attention": "eager"},
    {"keep_output": True, "precision": "fp32"},
    {"tiled_mlp": True, "seq_len": 2048},
    {"tiled_mlp": True, "seq_len": 2048, "mlp_tiles": 8, "precision": "fp32"},
    {"eval_batch": 8},
    {"eval_batch": 8, "eval_accumulation": 3},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("vocabulary", [512, 16384])  # the peak is in a layer, or in the loss
def test_against_pytorch(settings: dict[str, Any], recompute: str, vocabulary: int) -> None:
    run = Training(**{"micro_batch": 2, "seq_len": 512, "precision": "bf16", "recompute": recompute, **settings})
    if recompute == "full" and run.use_cache:
        pytest.skip("layers hand out tuples of keys and values; a cache object would be filled twice")
    values = {**LLAMA, "vocab_size": vocabulary}
    theirs, found = traced(values, run), estimate(read_config(values), run)
    pairs = {"after the forward": (found.after_forward, theirs.after_forward)}
    ours = max(found.steady + m.bytes for m in found.moments if not m.name.startswith(("evaluation", "optimizer")))
    pairs["forward and backward"] = (ours, theirs.peak_forward_backward)
    if run.eval_batch:
        pairs["evaluation"] = (highest(found), theirs.evaluation)
    bound = 0.006 if run.tiled_mlp else 0.005  # recomputed in 16 bits, tiles are 0.6 % low
    for name, (mine, traced_bytes) in pairs.items():
        assert abs(mine / traced_bytes - 1) <= bound, f"{name}: {mine} here, {traced_bytes} traced"


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recompute", ["none", "full"])
def test_queries_and_passages(recompute: str) -> None:
    """Two forwards of one model, the last token of each sequence under the mask, scores against one another."""
    torch = libraries().torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    run = Training(micro_batch=2, seq_len=256, passage_len=768, passages=2, objective="embed", precision="bf16",
                   recompute=recompute)  # fmt: skip
    kernels: Counter[str] = Counter()
    book = Allocations()
    model = build(LLAMA, half=True, attention="sdpa").model  # without its language-model head
    with FakeTensorMode(allow_non_fake_inputs=True), cuda_like(kernels), torch.device("cpu"):
        model.to_empty(device="cpu")
        model.train()
        if recompute == "full":
            checkpointed(torch, types.SimpleNamespace(model=model), kernels)
        for tensor in (*model.parameters(), *model.buffers()):
            book.see(tensor)
        with watching(book):
            before = book.live

            def encoded(rows: int, length: int) -> Any:
                hidden = model(input_ids=torch.randint(0, 2, (rows, length)), use_cache=False).last_hidden_state
                mask = torch.ones(rows, length, dtype=torch.int64).unsqueeze(-1).expand(hidden.shape).to(hidden.dtype)
                at = torch.full((rows, 1, hidden.shape[-1]), length - 1)
                return torch.gather(hidden * mask, 1, at).squeeze(1)

            loss = (encoded(2, 256) @ encoded(4, 768).T).sum()
            kept = book.live - before
            book.restart_peak()
            loss.backward()
            peak = book.peak - before
    found = estimate(under_objective(read_config(LLAMA), "embed", 2), run)
    assert found.after_forward - found.steady == pytest.approx(kept, rel=0.02)
    # counted as one pass: what works in a layer's backward is that of queries and passages, of which one comes after the other
    ours = max(moment.bytes for moment in found.moments if moment.name != "optimizer step")
    assert peak <= ours * 1.005
    assert ours <= peak * 1.15
