"""What a moment consists of, line by line: the same terms that make its bytes, with batch and length filled in."""

from collections.abc import Iterator
from itertools import accumulate, pairwise

from memcalc.autograd.tape import Size, Tensor
from memcalc.estimates.lines import Line, LineTensor, line
from memcalc.estimates.training.moments import MomentForm
from memcalc.estimates.training.profiles import LEAF, TABLES
from memcalc.estimates.training.states import STEP
from memcalc.formulas.activations import rounded_tensor_bytes, tensor_bytes
from memcalc.frozen import NamedTuple
from memcalc.specs.training import Training


class Sizes(NamedTuple):
    """A batch and a length, as linear forms ask for them."""

    batch: int
    tokens: int  # of a micro-batch on this rank
    pairs: int  # batch × queries × keys
    positions: int  # of a sequence on this rank

    @classmethod
    def of(cls, rows: int, length: int, cp: int) -> "Sizes":
        """So many rows of so many tokens, cut over context-parallel ranks."""
        here = length // cp
        return cls(rows, rows * here, rows * here * length, here)

    @classmethod
    def of_run(cls, run: Training) -> "Sizes":
        """A micro-batch at its largest."""
        cp = run.parallelism.cp
        return cls(run.rows, run.tokens // cp, run.pairs // cp, run.row_length // cp)

    def bytes_of(self, size: Size) -> float:
        return size.at(self.tokens, self.pairs, self.positions)


def activation_lines(form: MomentForm, sizes: Sizes, *, parts: bool = False) -> tuple[Line, ...]:
    """A moment's activations by block, adding up to its bytes exactly; with `parts`, each with the tensors it consists of.

    Where tensors are fractions of a byte on average, each line takes the whole bytes that the sum so far has reached.
    """
    blocks = _blocks(form)
    exact = [sum(sizes.bytes_of(tensor.bytes) for tensor in tensors) for tensors in blocks.values()]
    reached = [0.0, *accumulate(size * copies for size, (_, copies) in zip(exact, blocks, strict=True))]
    whole = [*map(int, reached[:-1]), int(sizes.bytes_of(form.activations))]
    made = (
        _line(path, size, copies, after - before)
        for (path, copies), size, (before, after) in zip(blocks, exact, pairwise(whole), strict=True)
    )
    if not parts:
        return tuple(made)
    return tuple(
        entry._replace(parts=tuple(_parts(tensors, copies, sizes)))
        for entry, ((_, copies), tensors) in zip(made, blocks.items(), strict=True)
    )


def _line(path: str, size: float, layers: float, whole: int) -> Line:
    """One block's line of so many whole bytes."""
    inputs = {"size": _short(size), "layers": _short(layers)}
    if rounding := whole - int(inputs["size"] * inputs["layers"]):
        return line("activations", path, phase_of(path), rounded_tensor_bytes, "gpu", rounding=rounding, **inputs)
    return line("activations", path, phase_of(path), tensor_bytes, "gpu", **inputs)


def leaf_line(size: int, pairs: int) -> Line:
    """PEFT's input leaf with its gradient, so many of them."""
    return line("activations", LEAF, STEP, tensor_bytes, size=size, layers=pairs)


def position_line(size: int) -> Line:
    """Masks and biases for pairs of positions, which recomputed layers refer to."""
    part = LineTensor("mask and biases", (), 0, size, 1)
    made = line("activations", TABLES, "forward and backward", tensor_bytes, size=size, layers=1)
    return made._replace(parts=(part,))


def vector_line(size: int) -> Line:
    """Embeddings of a whole batch and their gradients, which stay while its parts are encoded again."""
    part = LineTensor("embeddings and their gradients", (), 0, size, 1)
    made = line("activations", "cached embeddings", "forward and backward", tensor_bytes, size=size, layers=1)
    return made._replace(parts=(part,))


def phase_of(path: str) -> str:
    """When a line of activations lives."""
    where = path.split("/", 1)[0]
    return f"backward of the {where.split()[0]}" if where.endswith("in its backward") else "forward and backward"


def _blocks(form: MomentForm) -> dict[tuple[str, float], list[Tensor]]:
    """The tensors of a moment by block and by how many copies of them there are."""
    out: dict[tuple[str, float], list[Tensor]] = {}
    for term in form.terms:
        for tensor in term.tensors():
            block, _, _ = tensor.label.partition("/")
            out.setdefault((f"{term.path}{block}", term.copies), []).append(tensor)
    return out


def _parts(tensors: list[Tensor], copies: float, sizes: Sizes) -> Iterator[LineTensor]:
    for tensor in tensors:
        name = tensor.label.partition("/")[2] or tensor.label
        yield LineTensor(name, shape_of(tensor, sizes), tensor.itemsize, _short(sizes.bytes_of(tensor.bytes)), _short(copies))


def shape_of(tensor: Tensor, sizes: Sizes) -> tuple[int, ...]:
    """[tokens, width], [batch, heads, queries, keys], [positions, width] or [elements]; empty where it is a mix."""
    token, pair, fixed, position = tensor.elements
    known = [(value, where) for value, where in (
        (token, (sizes.tokens,)), (position, (sizes.positions,)), (fixed, ()),
    ) if value]  # fmt: skip
    if not tensor.itemsize or len(known) + bool(pair) != 1:
        return ()
    if pair:
        rows, queries = sizes.batch, sizes.positions
        shape: tuple[float, ...] = (rows, pair, queries, sizes.pairs // (rows * queries))
    else:
        value, where = known[0]
        shape = (*where, value)
    return tuple(int(length) for length in shape) if all(length == int(length) for length in shape) else ()


def _short(number: float) -> float:
    """A whole number without its point."""
    nearest = round(number)
    return nearest if abs(number - nearest) < 1e-6 else number  # a whole number but for what its factors were rounded by
