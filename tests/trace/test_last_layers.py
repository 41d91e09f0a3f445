"""The last layers alone trained: memcalc beside PyTorch's own count of a step (marked torch)."""

from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest

from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.training import Training
from memcalc.trace.allocations import Allocations, watching
from memcalc.trace.cuda_like import cuda_functions, cuda_like
from memcalc.trace.libraries import libraries
from memcalc.trace.model import build, named

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 6, "num_attention_heads": 16,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 1024, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip
BOUNDS = {"steady": 0.001, "after_forward": 0.001, "peak_forward_backward": 0.01, "peak_optimizer_step": 0.001}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("precision", ["bf16", "bf16-amp"])
def test_a_step(precision: str, recompute: str, layers: int) -> None:
    """LLaMA-Factory's freeze: requires_grad is set for the last layers alone (model/adapter.py, _setup_freeze_tuning)."""
    run = Training(precision=precision, recompute=recompute, train_layers=layers, micro_batch=2, seq_len=512)
    torch = libraries().torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    book, kernels = Allocations(), Counter[str]()
    model = build(LLAMA, half=precision == "bf16", attention="sdpa")
    for name, parameter in model.named_parameters():
        part = name.split(".")
        parameter.requires_grad_("layers" in part and int(part[2]) >= 6 - layers)
    with FakeTensorMode(allow_non_fake_inputs=True), cuda_like(kernels), torch.device("cpu"):
        model.to_empty(device="cpu")
        model.train()
        if recompute == "full":
            contexts = {"context_fn": lambda: (nullcontext(), cuda_functions(kernels))}
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, **contexts})
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
        names = named(model, book)
        for tensor in (*model.parameters(), *model.buffers()):
            book.see(tensor)
        with watching(book):
            for _ in range(2):
                steady = book.live
                ids = torch.randint(0, 2, (2, 512))
                book.restart_peak()
                names.restart()
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-amp"):
                    loss = model(input_ids=ids, labels=ids).loss
                after_forward = book.live
                loss.backward()
                del loss
                peak = book.peak
                book.restart_peak()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                del ids
    theirs = {"steady": steady, "after_forward": after_forward, "peak_forward_backward": peak, "peak_optimizer_step": book.peak}
    found = estimate(read_config(LLAMA), run)
    for name, bound in BOUNDS.items():
        ours = getattr(found, name)
        assert abs(ours / theirs[name] - 1) <= bound, f"{name}: {ours:,} here, {theirs[name]:,} traced"
