"""Optimizer states against what the libraries allocate, and the table against itself."""

from itertools import product
from math import prod

import pytest

from memcalc.errors import InputError
from memcalc.formulas.optimizer_states import FORMAT_BYTES, RULES, SCOPES
from memcalc.formulas.optimizer_table import OPTIMIZERS
from memcalc.formulas.optimizers import (
    bytes_of,
    elementwise_bytes_per_parameter,
    optimizer,
    paged_bytes,
    state_bytes,
    states_of,
)

MATRIX, VECTOR, EMBEDDING = (4096, 4096), (4096,), (128_256, 4096)
MLP, EXPERTS = (14_336, 4096), (8, 14_336, 4096)
N = prod(MATRIX)

# optimizer, bytes of the weight, B per parameter of MATRIX (mlp), of VECTOR (norm), of EMBEDDING
PER_PARAMETER = [
    ("sgd", 4, 0, 0, 0),
    ("sgd-momentum", 4, 4, 4, 4),
    ("sgd-momentum", 2, 2, 2, 2),
    ("adam", 4, 8, 8, 8),
    ("adamw", 4, 8, 8, 8),  # Rajbhandari et al. 2020, section 3.1: momentum and variance, 4 + 4 bytes
    ("adamw", 2, 4, 4, 4),
    ("adamw-bf16", 4, 4, 4, 4),
    ("adamw-8bit", 2, 2.03125, 2.03125, 2.03125),  # 1 + 4/256 for each state; 4096 values are just enough
    ("paged-adamw", 2, 8, 8, 8),
    ("paged-adamw-8bit", 2, 2.03125, 2.03125, 2.03125),
    ("ademamix", 2, 12, 12, 12),
    ("schedule-free-adamw", 4, 8, 8, 8),
    ("lion", 4, 4, 4, 4),
    ("lion", 2, 2, 2, 2),
    ("lion-8bit", 2, 1.015625, 1.015625, 1.015625),
    ("adagrad", 4, 4, 4, 4),
    ("rmsprop", 4, 4, 4, 4),
    ("sophia", 4, 8, 8, 8),
    ("lamb", 4, 8, 8, 8),
    ("muon", 4, 4, 8, 8),  # the embedding and the norm are AdamW's
    ("muon", 2, 2, 4, 4),
]

# optimizer, shape, role, bytes of the weight, expected bytes, where they are from
STATE_BYTES = [
    # libraries run on a CPU, storages of all state tensors summed
    ("adafactor", (96, 64), "mlp", 4, 384 + 256, "torch 2.13: row_var, col_var"),
    ("adafactor", (96, 64), "mlp", 2, 192 + 128, "torch 2.13: row_var, col_var in bf16"),
    ("adafactor", (3, 64, 32), "experts", 4, 768 + 384, "torch 2.13: leading dimensions are kept"),
    ("adafactor", (70,), "norm", 4, 280, "torch 2.13: variance"),
    ("adafactor-momentum", (96, 64), "mlp", 2, 24_576 + 384 + 256 + 4, "transformers 5: fp32 states of a bf16 weight"),
    ("adafactor-momentum", (64,), "norm", 4, 2 * 256 + 4, "transformers 5: exp_avg, exp_avg_sq, RMS"),
    ("came", (96, 64), "mlp", 4, 24_576 + 2 * (384 + 256) + 4, "came-pytorch 0.1.3"),
    ("came", (3, 64, 32), "experts", 2, 24_576 + 2 * (768 + 384) + 2, "came-pytorch 0.1.3: RMS in bf16"),
    ("came", (70,), "norm", 4, 2 * 280 + 4, "came-pytorch 0.1.3"),
    ("adamw-8bit", (300, 20), "mlp", 4, 2 * (6000 + 96), "bitsandbytes 0.50: 24 blocks of 256"),
    ("adamw-8bit", (5000,), "norm", 2, 2 * (5000 + 80), "bitsandbytes 0.50: 20 blocks of 256"),
    ("adamw-8bit", (40, 100), "mlp", 2, 2 * 16_000, "bitsandbytes 0.50: 4000 values stay fp32"),
    ("lion-8bit", (300, 20), "mlp", 2, 6000 + 96, "bitsandbytes 0.50"),
    ("lion-8bit", (64,), "norm", 2, 256, "bitsandbytes 0.50: small, stays fp32"),
    ("ademamix", (96, 64), "mlp", 2, 49_152 + 24_576, "bitsandbytes 0.50: state1 is two momenta"),
    ("adamw-8bit-torchao", (96, 64), "mlp", 2, 2 * 7264, "torchao 0.18: codes, scales, 256-entry table"),
    ("adamw-8bit-torchao", (33, 128), "mlp", 2, 2 * 8448, "torchao 0.18: not a multiple of 256, stays bf16"),
    ("adamw-4bit", (96, 64), "mlp", 4, 2 * 3328, "torchao 0.18: codes, scales, 16-entry table"),
    ("adamw-4bit", (33, 128), "mlp", 4, 2 * 2308, "torchao 0.18: a multiple of 128"),
    ("adamw-4bit", (5000,), "norm", 4, 2 * 20_000, "torchao 0.18: not a multiple of 128"),
    ("adamw-fp8", (96, 64), "mlp", 2, 2 * 6240, "torchao 0.18: codes, scales"),
    ("adamw-fp8", (64,), "norm", 2, 2 * 128, "torchao 0.18: small, stays bf16"),
    ("adam-mini", (96, 64), "mlp", 4, 24_576 + 384, "adam-mini 1.1.1: one vmean per row"),
    ("adam-mini", (64,), "norm", 4, 256 + 4, "adam-mini 1.1.1: one vmean"),
    ("soap", (300, 20), "mlp", 4, 2 * 24_000 + 2 * 361_600, "SOAP: exp_avg, exp_avg_sq, GG, Q"),
    ("soap", (3, 64, 32), "experts", 4, 2 * 24_576 + 2 * 20_516, "SOAP: a matrix for every dimension"),
    ("soap", (64,), "norm", 4, 512, "SOAP: precondition_1d=False"),
    # by hand
    ("adafactor", MATRIX, "attention", 4, 4 * (4096 + 4096), "Shazeer and Stern 2018: n + m instead of n·m"),
    ("adafactor", EMBEDDING, "embedding", 4, 4 * (128_256 + 4096), "Shazeer and Stern 2018"),
    ("adam-mini", EMBEDDING, "embedding", 4, 4 * (prod(EMBEDDING) + 128_256), "Zhang et al. 2025: one per token"),
    ("muon", EXPERTS, "experts", 4, 4 * prod(EXPERTS), "a stack of matrices"),
    ("muon", (4096, 4096), "head", 4, 8 * N, "the head is AdamW's"),
    ("muon", (2048, 4096), "position", 4, 8 * 2048 * 4096, "so are positions"),
    ("galore", EMBEDDING, "embedding", 2, 4 * prod(EMBEDDING), "AdamW"),
    ("galore", EXPERTS, "experts", 2, 4 * prod(EXPERTS), "galore-torch fails on 3-D tensors, so AdamW"),
    ("apollo-mini", MATRIX, "mlp", 2, 2 * (3 * 4096 + 1), "rank 1: two moments, a projector, a norm"),
    (
        "shampoo",
        MATRIX,
        "mlp",
        4,
        8 * N + 16 * N,
        "Distributed Shampoo's docstring: memory cost = 4mn with root inverses",
    ),
    ("shampoo", VECTOR, "norm", 4, 8 * 4096 + 2 * 4 * 4 * 1024**2, "four blocks of 1024, two matrices each"),
    ("soap", MATRIX, "mlp", 4, 8 * N + 16 * N, "Vyas et al. 2025: 2m² + 2n² besides Adam"),
    ("soap", MLP, "mlp", 4, 8 * prod(MLP) + 2 * 4 * 4096**2, "14336 is above max_precond_dim"),
    ("soap", EMBEDDING, "embedding", 4, 8 * prod(EMBEDDING) + 2 * 4 * 4096**2, "so is a vocabulary"),
]

# optimizer, shape, bytes of the weight, expected bytes at rank 8 (galore-torch 1.0, apollo-torch 1.0.3, run on a CPU)
LOW_RANK = [
    ("galore", (96, 64), 2, 1024 + 2 * 1536),
    ("galore", (96, 64), 4, 16_384 + 2 * 3072),  # the projector's storage is the whole 64 × 64 factor
    ("galore", (40, 100), 2, 640 + 2 * 1600),
    ("galore", (40, 100), 4, 6400 + 2 * 3200),
    ("apollo", (96, 64), 4, 2048 + 2 * 3072 + 4),
    ("apollo", (40, 100), 2, 640 + 2 * 1600 + 2),
    ("apollo", (300, 20), 4, 640 + 2 * 9600 + 4),
]


@pytest.mark.parametrize(("name", "weight", "matrix", "vector", "embedding"), PER_PARAMETER)
def test_bytes_per_parameter(name: str, weight: int, matrix: float, vector: float, embedding: float) -> None:
    opt = optimizer(name)
    for shape, role, expected in (
        (MATRIX, "mlp", matrix),
        (VECTOR, "norm", vector),
        (EMBEDDING, "embedding", embedding),
    ):
        found = state_bytes(opt, shape, parameter_bytes=weight, role=role)
        assert found == expected * prod(shape), f"{name} {shape}: {found / prod(shape)} B per parameter, not {expected}"


@pytest.mark.parametrize(("name", "shape", "role", "weight", "expected", "source"), STATE_BYTES)
def test_state_bytes(name: str, shape: tuple[int, ...], role: str, weight: int, expected: int, source: str) -> None:
    found = state_bytes(optimizer(name), shape, parameter_bytes=weight, role=role)
    assert found == expected, f"{name} {shape}: {found} B, expected {expected} B ({source})"


@pytest.mark.parametrize(("name", "shape", "weight", "expected"), LOW_RANK)
def test_low_rank(name: str, shape: tuple[int, ...], weight: int, expected: int) -> None:
    assert state_bytes(optimizer(name), shape, parameter_bytes=weight, rank=8) == expected


def test_rank_is_ignored_where_nothing_has_one() -> None:
    assert state_bytes(optimizer("adamw-8bit"), MATRIX, parameter_bytes=2, rank=8) == 2.03125 * N


def test_svd_cannot_give_more_vectors_than_the_shorter_side() -> None:
    assert state_bytes(optimizer("galore"), (40, 100), parameter_bytes=2, rank=512) == 2 * (40 * 40 + 2 * 100 * 40)


@pytest.mark.parametrize(
    ("name", "unfused", "fused"),
    [("adamw", 8 * N, 8 * N + 4), ("adafactor", 32_768, 32_768), ("lion", 4 * N, 4 * N), ("adamw-bf16", 4 * N, 4 * N)],
)
def test_step_counters_are_on_the_device_only_when_fused(name: str, unfused: int, fused: int) -> None:
    opt = optimizer(name)
    assert state_bytes(opt, MATRIX, parameter_bytes=4) == unfused
    assert state_bytes(opt, MATRIX, parameter_bytes=4, fused=True) == fused


@pytest.mark.parametrize(
    ("name", "weight", "expected"),
    [
        ("sgd", 4, 0.0),
        ("adamw", 4, 8.0),
        ("adamw", 2, 4.0),
        ("adamw-8bit", 2, 2.03125),
        ("lion-8bit", 2, 1.015625),
        ("adamw-8bit-torchao", 2, 2.03125),
        ("adamw-4bit", 2, 1.0625),
        ("adamw-fp8", 2, 2.03125),
        ("lamb", 4, 8.0),
        *((name, 4, None) for name in ("adafactor", "came", "muon", "adam-mini", "galore", "apollo", "shampoo", "soap")),
    ],
)
def test_elementwise_bytes_per_parameter(name: str, weight: int, expected: float | None) -> None:
    assert elementwise_bytes_per_parameter(optimizer(name), weight) == expected


@pytest.mark.parametrize(("name", "fused"), list(product(OPTIMIZERS, (False, True))))
def test_fast_path_agrees_with_shapes(name: str, fused: bool) -> None:
    """States of a tensor of whole blocks are the rate × parameters and what every tensor has once, whatever its size."""
    opt = optimizer(name)
    rate = elementwise_bytes_per_parameter(opt, 2)
    if rate is not None:
        shapes = (MATRIX, EMBEDDING, VECTOR)
        once = {state_bytes(opt, shape, parameter_bytes=2, fused=fused) - rate * prod(shape) for shape in shapes}
        assert len(once) == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_can_be_cut_flat_has_a_rate(name: str) -> None:
    """A flat shard has neither shape nor role, so whatever may be cut flat must not depend on them."""
    opt = optimizer(name)
    assert not opt.elementwise or elementwise_bytes_per_parameter(opt, 4) is not None


def test_which_optimizers_need_whole_tensors() -> None:
    whole = {name for name, opt in OPTIMIZERS.items() if not opt.elementwise}
    assert whole == {
        *("adafactor", "adafactor-momentum", "came", "lamb", "muon", "adam-mini"),
        *("galore", "galore-8bit", "galore-adafactor", "q-galore", "apollo", "apollo-mini", "shampoo", "soap", "dion"),
        *("adalomo", "prodigy", "stable-adamw"),
    }


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("paged-adamw", MATRIX, 8 * N),
        ("paged-adamw-8bit", MATRIX, 2 * N),  # not the scales
        ("paged-lion-8bit", MATRIX, N),
        ("paged-adamw", (99_999,), 0),  # bitsandbytes: p.numel() < 1e5
        ("paged-adamw", (100_000,), 800_000),
        ("adamw-8bit", MATRIX, 0),
    ],
)
def test_paged_bytes(name: str, shape: tuple[int, ...], expected: int) -> None:
    assert paged_bytes(optimizer(name), shape, parameter_bytes=2) == expected


@pytest.mark.parametrize("shape", [(1500, 700), (1024,), (5, 3000, 40), (1, 1), (2049, 1, 3), (16, 32)])
def test_block_squares_against_enumeration(shape: tuple[int, ...]) -> None:
    """Every block of at most 1024 a side has one square matrix for each of its sides."""
    dims = {(5, 3000, 40): (5, 3000, 40), (1, 1): (1,), (2049, 1, 3): (2049, 3), (16, 32): (512,)}.get(shape, shape)
    pieces = [[min(1024, dim - start) for start in range(0, dim, 1024)] for dim in dims]
    assert RULES["block-squares"](shape, 1024, 4) == sum(side**2 for block in product(*pieces) for side in block)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_table_is_consistent(name: str) -> None:
    opt = OPTIMIZERS[name]
    assert opt.scope in SCOPES
    assert bool(opt.otherwise) == (opt.scope != "all tensors")
    assert opt.title
    assert opt.source
    for states in (opt.states, opt.otherwise):
        assert len({state.name for state in states}) == len(states)
        for state in states:
            assert state.rule in RULES
            assert state.format in {*FORMAT_BYTES, "parameter"}


def test_state_bytes_is_the_sum_of_its_states() -> None:
    opt = optimizer("came")
    parts = [bytes_of(state, MATRIX, parameter_bytes=2) for state in states_of(opt, MATRIX)]
    assert state_bytes(opt, MATRIX, parameter_bytes=2) == sum(parts) == 4 * N + 4 * 4 * 4096 + 2


def test_names_are_forgiving_and_errors_help() -> None:
    assert optimizer("Paged_AdamW_8bit").name == "paged-adamw-8bit"
    with pytest.raises(InputError, match=r"no optimizer is named 'adamv'; did you mean .*adamw"):
        optimizer("adamv")


TORCH = [
    ("sgd", "SGD", {"lr": 0.1}),
    ("sgd-momentum", "SGD", {"lr": 0.1, "momentum": 0.9}),
    ("adam", "Adam", {}),
    ("adamw", "AdamW", {}),
    ("adafactor", "Adafactor", {}),
    ("adagrad", "Adagrad", {}),
    ("rmsprop", "RMSprop", {}),
    ("muon", "Muon", {}),
]


@pytest.mark.torch
@pytest.mark.parametrize(("name", "cls", "arguments"), TORCH)
@pytest.mark.parametrize("shape", [(96, 64), (3, 64, 32), (70,)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_allocates_the_same(name: str, cls: str, arguments: dict[str, float], shape: tuple[int, ...], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    if name == "muon" and len(shape) != 2:
        pytest.skip("torch.optim.Muon takes 2-D tensors only")
    weight = torch.nn.Parameter(torch.ones(shape, dtype=getattr(torch, dtype)))
    weight.grad = torch.ones_like(weight)
    opt = getattr(torch.optim, cls)([weight], **arguments)
    opt.step()
    tensors = [value for value in opt.state[weight].values() if torch.is_tensor(value)]
    states = states_of(optimizer(name), shape)
    expected = sorted(bytes_of(state, shape, parameter_bytes=weight.element_size()) for state in states)
    assert expected == sorted(tensor.nbytes for tensor in tensors)


# shape, largest preconditioner → elements of one square matrix a dimension and block, as distributed_shampoo's
# merge_small_dims (1s are squeezed, neighbours merged from the last) and its blocks make them
SHAMPOO = [
    ((4096, 1), 1024, 4 * 1024**2),  # a vector in four pieces
    ((1, 4096), 1024, 4 * 1024**2),
    ((1, 1), 1024, 1),
    ((2, 3, 2048), 1024, 2 * (6**2 + 1024**2)),  # (6, 2048) in two pieces
    ((384, 80, 3), 1024, 384**2 + 240**2),  # Whisper tiny's first convolution: (384, 240)
    ((1500, 8), 1024, 1024**2 + 8**2 + 476**2 + 8**2),  # a whole piece and a rest
]


@pytest.mark.parametrize(("shape", "size", "expected"), SHAMPOO)
def test_shampoo_preconditions_merged_dimensions_in_blocks(shape: tuple[int, ...], size: int, expected: int) -> None:
    assert RULES["block-squares"](shape, size, 4) == expected
