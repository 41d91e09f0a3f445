"""Training methods: what each trains, beside what, and how frozen weights are kept. A method is one row."""

from typing import NamedTuple


class TrainingMethod(NamedTuple):
    """One way of training. A user's choice of method changes numbers only through this row."""

    name: str
    note: str
    adapters: bool = False  # low-rank adapters are trained beside frozen weights; else the weights themselves
    quantised: bool = False  # frozen matrices are stored in 4 bits and dequantised for each product
    magnitude: bool = False  # a learned magnitude scales each adapted output
    fake_quantised: bool = False  # weights and inputs of matrix products pass a fake quantiser


METHODS: dict[str, TrainingMethod] = {
    row.name: row
    for row in (
        TrainingMethod("full", "all weights are trained"),
        TrainingMethod("lora", "low-rank adapters beside frozen weights (Hu et al. 2021)", adapters=True),
        TrainingMethod("qlora", "the same beside 4-bit matrices (Dettmers et al. 2023)", adapters=True, quantised=True),
        TrainingMethod("dora", "adapters with a learned magnitude (Liu et al. 2024)", adapters=True, magnitude=True),
        TrainingMethod("qat", "all weights, through a fake quantiser (torchao)", fake_quantised=True),
    )
}
ADAPTING = tuple(row.name for row in METHODS.values() if row.adapters)
QUANTISED = tuple(row.name for row in METHODS.values() if row.quantised)
