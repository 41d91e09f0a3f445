"""Adapters beside frozen matrices: memcalc beside PyTorch's own count of a step (marked torch).

Modules here do what the libraries' do, line by line, as far as memory sees it: bitsandbytes' Linear4bit and MatMul4Bit
(nn/modules.py, autograd/_functions.py), PEFT's adapters (peft/tuners/lora/layer.py and bnb.py).
"""

import copy
from typing import Any

import pytest

from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.training import Training
from memcalc.trace.libraries import libraries
from memcalc.trace.model import build
from tests.trace.steps import BOUNDS, LLAMA, Traced, two_steps


def traced(values: dict[str, Any], run: Training) -> Traced:
    """A step of the model with adapters on all linear layers, quantised as the run says."""
    torch = libraries().torch
    model = build(values, half=True, attention=run.attention)
    with torch.device("meta"):
        _prepare(torch, model, run)
    return two_steps(model, run, leaf=True)


def _prepare(torch: Any, model: Any, run: Training) -> None:
    """Freeze, quantise, adapt, and upcast what stands beside."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    quantised = run.method == "qlora"
    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, module in list(parent.named_children()):
                if isinstance(module, torch.nn.Linear):
                    base = _linear4bit(torch, *module.weight.shape) if quantised else module
                    setattr(parent, name, _lora(torch, base, *module.weight.shape, run, quantised))
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.bfloat16 and (run.upcast == "all" or (run.upcast == "norms" and "norm" in name)):
            parameter.data = parameter.data.float()
    _copy(torch, model, run.train_also)


def _copy(torch: Any, model: Any, also: tuple[str, ...]) -> None:
    """PEFT's ModulesToSaveWrapper (peft/utils/other.py): the original stays, a copy of it is trained."""
    kinds = {
        "embeddings": ("embed_tokens",),
        "head": ("lm_head",),
        "norms": ("norm", "input_layernorm", "post_attention_layernorm"),
    }
    wanted = [name for word in also for name in kinds[word]]

    class Wrapper(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, module: Any) -> None:
            super().__init__()
            self.original, self.copy = module, copy.deepcopy(module).requires_grad_(True)

        def forward(self, x: Any) -> Any:
            return self.copy(x)

    for path, module in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        if name in wanted:
            setattr(model.get_submodule(parent), name, Wrapper(module))


def _linear4bit(torch: Any, outputs: int, inputs: int) -> Any:
    class MatMul4Bit(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.new_empty((*x.shape[:-1], outputs))

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return gradient @ gradient.new_empty((outputs, inputs))  # dequantised

    class Linear4bit(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            stored = outputs * inputs // 2 + outputs * inputs // 64 * 4  # an fp32 absmax for 64 values
            self.weight = torch.nn.Parameter(torch.empty(stored, dtype=torch.uint8), requires_grad=False)

        def forward(self, x: Any) -> Any:
            return MatMul4Bit.apply(x.to(torch.bfloat16)).to(x.dtype)

    return Linear4bit()


def _lora(torch: Any, base: Any, outputs: int, inputs: int, run: Training, quantised: bool) -> Any:
    class Lora(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.base, self.drop = base, torch.nn.Dropout(run.lora_dropout) if run.lora_dropout else torch.nn.Identity()
            self.a = torch.nn.Linear(inputs, run.lora_rank, bias=False, dtype=torch.float32)
            self.b = torch.nn.Linear(run.lora_rank, outputs, bias=False, dtype=torch.float32)

        def forward(self, x: Any) -> Any:
            result = self.base(x)
            expected, convert = result.dtype, not (quantised and torch.is_autocast_enabled("cpu"))
            result = result.clone() if quantised else result
            x = x.to(torch.float32) if convert else x
            output = self.b(self.a(self.drop(x))) * 2.0
            output = output.to(expected) if convert and quantised else output
            result = result + output
            return result if quantised else result.to(expected)

    return Lora()


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize(
    ("method", "kbit_prepare", "precision"),
    [
        ("qlora", "all", "bf16-amp"), ("qlora", "all", "bf16"), ("qlora", "norms", "bf16-amp"), ("qlora", "none", "bf16-amp"),
        ("qlora", "none", "bf16"), ("lora", None, "bf16-amp"), ("lora", None, "bf16"),
    ],
)  # fmt: skip
def test_a_step(method: str, kbit_prepare: str | None, precision: str, recompute: str, dropout: float) -> None:
    base = {"base_format": "nf4", "kbit_prepare": kbit_prepare} if method == "qlora" else {}
    run = Training(method=method, precision=precision, recompute=recompute, lora_dropout=dropout, micro_batch=2, seq_len=512,
                   engine="accelerate", **base)  # fmt: skip
    compare(run)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("also", [("embeddings",), ("head",), ("norms",), ("embeddings", "head", "norms")], ids=",".join)
@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize(("method", "precision"), [("lora", "bf16"), ("qlora", "bf16-amp")])
def test_copies(method: str, precision: str, recompute: str, also: tuple[str, ...]) -> None:
    base = {"base_format": "nf4"} if method == "qlora" else {}
    compare(Training(method=method, precision=precision, recompute=recompute, train_also=also, micro_batch=2, seq_len=512,
                     engine="accelerate", **base))  # fmt: skip


def compare(run: Training) -> None:
    """memcalc within its bounds of the traced step."""
    found, theirs = estimate(read_config(LLAMA), run), traced(LLAMA, run)
    for name, bound in BOUNDS.items():
        ours = getattr(found, name)
        assert abs(ours / getattr(theirs, name) - 1) <= bound, f"{name}: {ours:,} here, {getattr(theirs, name):,} traced"
