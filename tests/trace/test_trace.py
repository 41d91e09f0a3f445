"""memcalc beside PyTorch's own count of a training step (marked torch), and the command where PyTorch is not installed."""

import copy
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memcalc.blocks.embedding import Embedding
from memcalc.blocks.norm import Norm
from memcalc.errors import Unsupported
from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.trace.allocations import Allocations, watching
from memcalc.trace.blocks import pair
from memcalc.trace.cuda_like import COMPOSED, cuda_like
from memcalc.trace.model import Child
from memcalc.trace.step import trace

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accuracy.py"
SPEC = importlib.util.spec_from_file_location("accuracy", SCRIPT)
assert SPEC
assert SPEC.loader
accuracy = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(accuracy)


def needs_torch(test: Callable[..., None]) -> Callable[..., None]:
    """Deselected by default; libraries' warnings are not ours."""
    marked: Callable[..., None] = pytest.mark.torch(pytest.mark.filterwarnings("ignore")(test))
    return marked


# (family, mode, attention, checkpointing, optimizer): the first such row of tests/reference/train_memory.json
CASES = (
    ("llama", "bf16", "sdpa", "none", "AdamW-fused"),
    ("llama", "amp", "sdpa", "full", "AdamW-fused"),
    ("llama", "fp32", "eager", "none", "AdamW-fused"),
    ("llama", "bf16", "sdpa", "none", "AdamW-foreach"),
    ("llama", "amp", "sdpa", "none", "AdamW-forloop"),
    ("qwen3", "bf16", "sdpa", "full", "AdamW-fused"),
    ("qwen3", "fp32", "sdpa", "none", "AdamW-fused"),
    ("gpt2", "bf16", "sdpa", "none", "AdamW-fused"),
    ("gpt2", "amp", "sdpa", "none", "AdamW-fused"),
    ("gpt_neox", "bf16", "eager", "none", "AdamW-fused"),
    ("opt", "bf16", "eager", "none", "AdamW-fused"),
    ("opt", "amp", "sdpa", "full", "AdamW-fused"),
    ("gemma2", "bf16", "eager", "none", "AdamW-fused"),
    ("phi3", "bf16", "sdpa", "full", "AdamW-fused"),
    ("mistral", "bf16", "sdpa", "full", "AdamW-fused"),
    ("mistral", "fp32", "sdpa", "none", "AdamW-fused"),
    ("mixtral", "bf16", "sdpa", "none", "AdamW-fused"),
)
MOMENTS = {"steady": 0.0005, "after_forward": 0.001, "peak_forward_backward": 0.005, "peak_optimizer_step": 0.005}


def row_of(case: tuple[str, ...]) -> dict[str, Any]:
    keys = ("mode", "attn", "checkpointing", "optimizer")
    rows: list[dict[str, Any]] = accuracy.rows()
    return next(row for row in rows if (row["config"]["model_type"], *(row[key] for key in keys)) == case)


@needs_torch
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_step(case: tuple[str, ...]) -> None:
    """The trace is the reference to the byte, and memcalc is within its bounds of both."""
    row = row_of(case)
    run, values = accuracy.setting(row), accuracy.config(row)
    traced = trace(values, run)
    assert {name: getattr(traced, name) for name in row["traced"]} == accuracy.traced(row)
    found = estimate(read_config(values), run)
    for name, bound in MOMENTS.items():
        ours, theirs = getattr(found, name), getattr(traced, name)
        assert abs(ours / theirs - 1) <= bound, f"{name}: {ours} here, {theirs} traced"


@needs_torch
@pytest.mark.parametrize("preset", ["llama-3.2-1b", "gpt2", "opt-1.3b", "gemma-2-2b", "phi-3-mini-4k", "olmoe-1b-7b"])
@pytest.mark.parametrize("more", [(), ("--precision", "bf16-amp"), ("--precision", "fp32", "--attention", "eager")])
def test_every_block(memcalc: Callable[..., Any], preset: str, more: tuple[str, ...]) -> None:
    """Block by block what the forward leaves, not only in total."""
    if preset.startswith("gemma-2-"):  # transformers has no other attention for it
        more = (*more, "--attention", "eager")
    result = memcalc("trace", preset, "--micro-batch", "2", "--seq-len", "256", "--format", "json", *more)
    assert (result.code, result.err) == (0, "")
    wrong = [b for b in result.document["blocks"] if b["bytes"] is None or abs(b["bytes"] - b["traced_bytes"]) > 16_384]
    assert not wrong, wrong


@needs_torch
@pytest.mark.parametrize("format_", ["table", "json", "csv", "markdown", "svg"])
def test_the_command(memcalc: Callable[..., Any], folder: Callable[..., str], format_: str) -> None:
    words = ("--layers", "1", "--seq-len", "128", "--grad-accum", "2", "--recompute", "full", "--optimizer-impl", "foreach")
    result = memcalc("trace", folder("openai-community/gpt2"), *words, "--format", format_)
    assert (result.code, result.err) == (0, "")
    for said in {"json": ('"traced"', '"errors"', '"tensors"'), "svg": ("<svg",)}.get(format_, ("steady", "layers/input")):
        assert said in result.out


@needs_torch
def test_what_is_kept_adds_up() -> None:
    """To what the forward allocates; gradients of earlier micro-batches are no part of it."""
    row = row_of(CASES[0])
    values, run = accuracy.config(row), accuracy.setting(row)
    once, twice = trace(values, run), trace(values, run.replace(grad_accum=2))
    assert sum(kept.bytes for kept in once.kept) == once.after_forward - once.steady
    assert once.kept == twice.kept
    assert twice.after_forward > once.after_forward


def kernels_of(operation: dict[str, Any], of: dict[str, dict[str, Any]]) -> set[str]:
    """The devices and composites that native_functions.yaml registers for an operation, its structured form's included."""
    named = [operation, of.get(operation.get("structured_delegate", ""), {})]
    return {key.strip() for entry in named for keys in entry.get("dispatch") or {} for key in keys.split(",")}


@needs_torch
def test_what_a_build_without_cuda_composes() -> None:
    """Of the operations with a CUDA kernel, exactly those that are listed fall back to a composite autograd formula."""
    yaml, torch = pytest.importorskip("yaml"), pytest.importorskip("torch")
    path = Path(torch.__file__).parents[1] / "torchgen" / "packaged" / "ATen" / "native" / "native_functions.yaml"
    operations = {entry["func"].partition("(")[0]: entry for entry in yaml.safe_load(path.read_text(encoding="utf-8"))}
    found = {name for name, entry in operations.items()
             if {"CUDA", "CompositeImplicitAutograd"} <= kernels_of(entry, operations)}  # fmt: skip
    assert found == COMPOSED


@needs_torch
@pytest.mark.parametrize(("function", "extra"), [("silu", 0), ("mish", 0), ("rms_norm", 4 * 64 * 1024)])
def test_one_kernel_forward_and_back(function: str, extra: int) -> None:
    """What lives through the backward are input, output and their gradients, and what rms_norm's kernel keeps: one fp32 number
    a row."""
    torch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode

    book, size = Allocations(), 2 * 64 * 1024 * 1024
    with FakeTensorMode(), cuda_like(Counter()), watching(book):
        x = torch.empty(64 * 1024, 1024, dtype=torch.bfloat16, requires_grad=True)
        more = ((1024,),) if function == "rms_norm" else ()
        y = getattr(torch.nn.functional, function)(x, *more)
        assert book.live == 2 * size + extra
        book.restart_peak()
        y.backward(torch.empty_like(y))
        assert book.peak == 4 * size + extra


@needs_torch
def test_nothing_stays_patched() -> None:
    import torch
    from transformers import masking_utils

    functional = torch.nn.functional
    watched = {(owner, name): getattr(owner, name) for owner, name in (
        (functional, "scaled_dot_product_attention"), (functional, "dropout"), (functional, "softmax"), (torch, "rand"),
        (torch.Tensor, "pow"), (masking_utils, "find_packed_sequence_indices"),
    )}  # fmt: skip
    row = row_of(CASES[0])
    trace(accuracy.config(row), accuracy.setting(row))
    with pytest.raises(Unsupported, match="cannot trace"):
        trace({**accuracy.config(row), "num_attention_heads": "many"}, accuracy.setting(row))
    assert all(getattr(owner, name) is before for (owner, name), before in watched.items())
    assert torch.nn.functional.dropout(torch.ones(4, dtype=torch.bfloat16), 0.0).tolist() == [1.0] * 4, "tensors are real again"
    assert torch.overrides._get_current_function_mode_stack() == []


@needs_torch
@pytest.mark.parametrize(("change", "said"), [
    ({"model_type": "llama9"}, "no model_type 'llama9'"),
    ({"model_type": "vit"}, "a loss that trace can step"),
    ({"model_type": "gemma2"}, "--attention eager"),
])  # fmt: skip
def test_what_cannot_be_traced_is_said_in_a_line(change: dict[str, Any], said: str) -> None:
    row = row_of(CASES[0])
    with pytest.raises(Unsupported, match=said) as error:
        trace({**copy.deepcopy(row["config"]), **change}, accuracy.setting(row))
    assert "\n" not in str(error.value)


@needs_torch
def test_settings_that_are_not_traced_are_refused() -> None:
    row = row_of(CASES[0])
    for change in ({"precision": "bf16-mixed"}, {"method": "lora"}, {"optimizer": "lion"}):
        with pytest.raises(Unsupported, match="trace steps on one device"):
            trace(accuracy.config(row), accuracy.setting(row).replace(**change))


# --- without PyTorch --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_the_extra(memcalc: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # importing it now fails
    result = memcalc("trace", "llama-3.2-1b", "--layers", "2")
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert "python3 -m pip install 'memcalc[torch]'" in result.err


PAIRS = [
    ("llama", "input_layernorm self_attn post_attention_layernorm mlp", "input_norm attention post_attention_norm mlp"),
    ("opt", "self_attn_layer_norm self_attn final_layer_norm fc1 activation_fn fc2",
     "input_norm attention post_attention_norm mlp mlp mlp"),
    ("phi", "input_layernorm self_attn resid_dropout mlp", "input_norm attention attention mlp"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "modules", "expected"), PAIRS, ids=[name for name, *_ in PAIRS])
def test_modules_are_paired_with_blocks_in_order(name: str, modules: str, expected: str) -> None:
    """Norms with norms, the others with the others; what has no weights stays with the block before."""
    names = dict.fromkeys(expected.split())
    blocks = tuple((block, Norm(8) if block.endswith("norm") else Embedding(8, 8)) for block in names)
    weightless = ("dropout", "activation_fn")
    children = [Child(module, "norm" in module, not module.endswith(weightless)) for module in modules.split()]
    assert list(pair(children, blocks).values()) == expected.split(), json.dumps(pair(children, blocks))
