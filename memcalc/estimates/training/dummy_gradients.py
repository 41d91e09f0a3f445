"""Transformer Engine's dummy weight gradients: what autograd is handed where products add to main gradients themselves.

One uninitialised tensor for each distinct shape of a weight, in the weight's format, stands from the first backward on
(transformer_engine/pytorch/module/base.py, get_dummy_wgrad; linear.py, layernorm_linear.py since 2.3, grouped_linear.py since
2.10; Megatron-LM's output layer in megatron/core/tensor_parallel/layers.py).
"""

from collections.abc import Iterable, Iterator

from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Shape
from memcalc.estimates.lines import Line, LineTensor, line
from memcalc.estimates.placement import Held, Stage
from memcalc.formulas import model_states
from memcalc.formulas.formula import ceil_div

MATRICES = ("attention", "linear-attention", "state-space", "mlp", "experts")
MERGED = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up"}  # one product each


def dummy_line(stage: Stage, tp: int, bytes_each: int) -> Line:
    """One tensor for each distinct shape of a stage's matrices."""
    shapes = dict.fromkeys((*_layers(stage.held), *_heads(stage, tp)))
    parts = tuple(LineTensor(f"{rows} × {columns}", (rows, columns), bytes_each, rows * columns * bytes_each, 1)
                  for rows, columns in shapes)  # fmt: skip
    elements = sum(rows * columns for rows, columns in shapes)
    made = line("communication", "dummy weight gradients", "always", model_states.whole_bytes, elements=elements,
                bytes_each=bytes_each)  # fmt: skip
    return made._replace(parts=parts)


def _layers(held: Iterable[Held]) -> Iterator[Shape]:
    """Shapes as products see them: merged ones together, of routed experts one."""
    found: dict[tuple[str, int], Shape] = {}
    for entry in held:
        shape = entry.shape[1:] if entry.routed and len(entry.shape) == 3 else entry.shape
        if entry.role not in MATRICES or len(shape) != 2 or not entry.layered:
            continue
        where, _, name = entry.path.rpartition("/")
        key = f"{where}/{MERGED.get(name, name)}", entry.kind
        rows, columns = found[key] if key in found else (0, shape[1])
        found[key] = (rows + shape[0], columns)
    return iter(found.values())


def _heads(stage: Stage, tp: int) -> Iterator[Shape]:
    return ((ceil_div(block.vocabulary, tp), block.size) for _, block in stage.exit if isinstance(block, Head))
