"""Two steps of a small model as PyTorch allocates them, of which the second counts: what several comparisons share."""

from collections import Counter
from contextlib import nullcontext
from typing import Any, NamedTuple

from memcalc.specs.training import Training
from memcalc.trace.allocations import Allocations, watching
from memcalc.trace.cuda_like import cuda_functions, cuda_like
from memcalc.trace.libraries import libraries
from memcalc.trace.model import named

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 6, "num_attention_heads": 16,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 1024, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}  # fmt: skip
BOUNDS = {"steady": 0.001, "after_forward": 0.001, "peak_forward_backward": 0.01, "peak_optimizer_step": 0.001}


class Traced(NamedTuple):
    """Bytes allocated at the moments of the second step."""

    steady: int
    after_forward: int
    peak_forward_backward: int
    peak_optimizer_step: int


def two_steps(model: Any, run: Training, *, leaf: bool) -> Traced:
    """AdamW over what is trained of a model on the meta device. `leaf`: its checkpoints' input is one (PEFT's)."""
    torch = libraries().torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    book, kernels = Allocations(), Counter[str]()
    with FakeTensorMode(allow_non_fake_inputs=True), cuda_like(kernels), torch.device("cpu"):
        model.to_empty(device="cpu")
        model.train()
        if run.recompute == "full":
            contexts = {"context_fn": lambda: (nullcontext(), cuda_functions(kernels))}
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, **contexts})
            if leaf:
                model.enable_input_require_grads()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
        names = named(model, book)
        for tensor in (*model.parameters(), *model.buffers()):
            book.see(tensor)
        with watching(book):
            for _ in range(2):
                steady = book.live
                ids = torch.randint(0, 2, (run.micro_batch, run.seq_len))
                book.restart_peak()
                names.restart()
                with torch.autocast("cpu", torch.bfloat16, enabled=run.precision == "bf16-amp"):
                    loss = model(input_ids=ids, labels=ids).loss
                after_forward = book.live
                loss.backward()
                del loss
                peak = book.peak
                book.restart_peak()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                del ids
    return Traced(steady, after_forward, peak, book.peak)
