"""What a step allocates, beside torch's own optimizers under fake tensors (marked torch), and by which implementation."""

from typing import Any

import pytest

from memcalc.formulas.optimizer_steps import STEP_TEMPORARIES, UNTRACED, choices, implementation, step_temporaries
from memcalc.formulas.optimizer_table import OPTIMIZERS
from memcalc.formulas.optimizers import optimizer
from memcalc.trace.allocations import Allocations, watching

SIDE = 1024
TORCH = (  # (name, class, arguments): torch.optim
    ("sgd", "SGD", {}), ("sgd-momentum", "SGD", {"momentum": 0.9}), ("adam", "Adam", {}), ("adamw", "AdamW", {}),
    ("adagrad", "Adagrad", {}), ("rmsprop", "RMSprop", {}), ("muon", "Muon", {}),
)  # fmt: skip
CASES = [
    (*row, how, each)
    for row in TORCH
    for how in choices(optimizer(row[0]))
    for each in (2, 4)
    if (row[0], how) != ("muon", "fused")
]


def made_by(torch: Any, cls: str, arguments: dict[str, Any], how: str, each: int, count: int) -> int:
    """Bytes beyond what stands, at the highest point of a later step over so many matrices."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    words = {} if cls == "Muon" else {"foreach": how == "foreach"} | ({"fused": True} if how == "fused" else {})
    book, peak = Allocations(), 0
    with FakeTensorMode(allow_non_fake_inputs=True):
        dtype = {2: torch.bfloat16, 4: torch.float32}[each]
        weights = [torch.nn.Parameter(torch.empty(SIDE, SIDE, dtype=dtype)) for _ in range(count)]
        stepper = getattr(torch.optim, cls)(weights, lr=1e-3, **arguments, **words)
        with watching(book):
            for _ in range(3):
                for weight in weights:
                    weight.grad = torch.empty_like(weight)
                book.restart_peak()
                before = book.live
                stepper.step()
                peak = book.peak - before
                stepper.zero_grad()
    return peak


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "cls", "arguments", "how", "each"), CASES)
def test_torch_makes_as_much(name: str, cls: str, arguments: dict[str, Any], how: str, each: int) -> None:
    """One matrix shows how much; eight show whether all at once."""
    torch = pytest.importorskip("torch")
    made = step_temporaries(optimizer(name), how)
    one, eight = (made_by(torch, cls, arguments, how, each, count) for count in (1, 8))
    rate, small = made.bytes_per_element(each) * SIDE**2, 16_384  # counters, norms
    assert abs(one - rate) <= small
    assert (
        abs(eight - rate * 8) <= 8 * small if made.at_once else eight <= rate + each * SIDE**2 + small
    )  # the last one's lingers


def test_which_implementations_there_are() -> None:
    """As asked where the library has it, else the library's own (torch/optim/rmsprop.py: no fused; _adafactor.py: the loop)."""
    found = {
        name: implementation(optimizer(name), "fused")
        for name in ("adamw", "sgd", "rmsprop", "adafactor", "lion", "adamw-8bit")
    }
    assert found == {
        "adamw": "fused", "sgd": "fused", "rmsprop": "foreach", "adafactor": "for-loop", "lion": "own", "adamw-8bit": "own",
    }  # fmt: skip
    assert "foreach" not in choices(optimizer("lion"))


def test_the_table_names_optimizers() -> None:
    assert set(STEP_TEMPORARIES) | UNTRACED <= set(OPTIMIZERS)
    assert not set(STEP_TEMPORARIES) & UNTRACED
