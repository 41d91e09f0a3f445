"""A symbolic tape: what PyTorch's autograd keeps and allocates, without PyTorch and without numbers.

A block records its forward pass onto a tape as eager code would run it: each operation names its inputs, what it saves for
the backward pass and what its backward allocates. Sizes are linear forms in tokens and in token pairs, so one recording serves
every batch and sequence length. From the tape follow the saved tensors (the ledger) and, by running it backwards as
autograd does (`backward`), every moment that could be the peak.

Sizes and order of allocations are those of PyTorch 2.13 (torch/csrc/autograd, derivatives.yaml), checked op by op against
traces under fake tensors.
"""

from collections.abc import Iterable, Sequence

from memcalc.frozen import NamedTuple

GRADIENTS = ("input", "over", "cast", "share")  # kinds of steps that make an input's gradient
FP32, HALF, BYTE, INT64 = 4, 2, 1, 8  # bytes of one element
FUSED = "fused scan"  # name of FLOPs that Triton kernels of chunked scans do


_new = tuple.__new__  # of which sizes make so many that the steps of a constructor would show


class Size(NamedTuple):
    """token × tokens + pair × (batch × sequence²) + fixed + position × sequence, whatever the batch; elements or bytes."""

    token: float = 0.0
    pair: float = 0.0
    fixed: float = 0.0
    position: float = 0.0

    def __mul__(self, factor: float) -> "Size":  # type: ignore[override]
        token, pair, fixed, position = self
        return _new(Size, (token * factor, pair * factor, fixed * factor, position * factor))

    def __add__(self, other: "Size") -> "Size":  # type: ignore[override]
        token, pair, fixed, position = self
        return _new(Size, (token + other[0], pair + other[1], fixed + other[2], position + other[3]))

    def __sub__(self, other: "Size") -> "Size":
        token, pair, fixed, position = self
        return _new(Size, (token - other[0], pair - other[1], fixed - other[2], position - other[3]))

    def at(self, tokens: float, pairs: float, positions: float = 0) -> float:
        return self.token * tokens + self.pair * pairs + self.fixed + self.position * positions

    def covers(self, other: "Size") -> bool:
        """Never smaller than the other, whatever the batch and the length."""
        token, pair, fixed, position = self
        return token >= other[0] and pair >= other[1] and fixed >= other[2] and position >= other[3]


ZERO = Size()


def sum_of(sizes: Iterable[Size]) -> Size:
    """Sizes added up."""
    token = pair = fixed = position = 0.0
    for size in sizes:
        token += size[0]
        pair += size[1]
        fixed += size[2]
        position += size[3]
    return Size(token, pair, fixed, position)


class Tensor(NamedTuple):
    """A tensor by name, once its tape is gone. `itemsize` 0: not known, `elements` are bytes already."""

    label: str
    elements: Size
    itemsize: int = 0

    @property
    def bytes(self) -> Size:
        return self.elements * self.itemsize if self.itemsize else self.elements


# Var, Node and Tape are written out: dataclasses would compile their constructors in every process.


class Var:
    """A tensor on the tape: elements, bytes of each, whether a gradient flows to it.

    `whole`: the tensor that it is a view of: saving the view keeps the whole. `outside`: made by another layer, which counts it
    however many layers keep it. `discarded`: saved, but dropped in the forward and made again before the backward needs it.
    """

    __slots__ = ("bytes", "discarded", "each", "elements", "grad", "label", "outside", "whole")

    def __init__(
        self, elements: Size, each: int, grad: bool, label: str = "", whole: "Var | None" = None, outside: bool = False,
        discarded: bool = False,
    ) -> None:  # fmt: skip
        self.elements, self.each, self.grad, self.label = elements, each, grad, label
        self.bytes = elements * each
        self.whole, self.outside, self.discarded = whole, outside, discarded

    @property
    def tensor(self) -> Tensor:
        return Tensor(self.label, self.elements, self.each)


class Step(NamedTuple):
    """One allocation of a backward: a temporary, a parameter's gradient, or the gradient of input number `source`."""

    # "temp", "weight", "input", "over" (the gradient of a saved input, written over it) or "share" (the gradient itself,
    # handed on without a copy), "passing" (a temporary that leaves once the next allocation is there), or "cast" (an input's
    # gradient in that input's narrower type, made when the operation is through)
    kind: str
    bytes: Size = ZERO
    source: int = 0  # number of the input


class Node:
    """One operation: its output, inputs, what it saves, and the allocations of its backward in order; `again`: what is made
    again when its backward begins."""

    __slots__ = ("again", "inputs", "name", "out", "saves", "steps")

    def __init__(
        self, name: str, out: Var, inputs: tuple[Var, ...], saves: tuple[Var, ...], steps: tuple[Step, ...],
        again: tuple[Var, ...] = (),
    ) -> None:  # fmt: skip
        self.name, self.out, self.inputs, self.saves, self.steps, self.again = name, out, inputs, saves, steps, again


class MatrixShape(NamedTuple):
    """A product of [rows, inputs] with [inputs, outputs], in each of `groups` that share the rows."""

    rows: float  # for each token of the rank
    outputs: float
    inputs: float
    groups: int = 1
    input_grad: bool = True
    weight_grad: bool = True


class HeadsShape(NamedTuple):
    """One attention: heads on this rank and the numbers in each."""

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    grad: bool
    fused: bool  # one kernel; else two products and what lies between them


class Message(NamedTuple):
    """What ranks of one axis send each other around an operation: a buffer, and its collectives forward and backward."""

    axis: str  # tp, cp or ep
    size: Size  # bytes of the whole buffer
    forward: tuple[str, ...]
    backward: tuple[str, ...]
    copies: float = 1.0  # of each token in it


class Work(NamedTuple):
    """What one operation multiplies, whether or not a gradient flows through it; a multiply-add is 2 FLOP.

    The pair part of `forward` is over all pairs of queries and keys. `window` and `causal` say which of them are
    unmasked, so that those alone can be counted.
    """

    name: str
    forward: Size  # FLOP
    backward: Size  # FLOP
    causal: bool = False
    window: int | None = None
    chunked: bool = False  # the window is an aligned chunk, not a sliding one
    shape: MatrixShape | HeadsShape | None = None  # None: not a product of known sizes


class Exchange(NamedTuple):
    """Buffers of one context-parallel attention's backward beside what is saved and the gradients it returns: copies of the
    queries and of the keys and values of this rank's tokens, each so many bytes a token."""

    query: float
    keys_values: float
    query_copies: int
    keys_values_copies: int

    @property
    def bytes(self) -> Size:
        """Of all copies."""
        return Size(token=self.query * self.query_copies + self.keys_values * self.keys_values_copies)


class Tape:
    """Operations in forward order. `path` prefixes the labels of what is recorded next."""

    def __init__(self, path: str = "", update: float = 0.0) -> None:
        self.nodes: list[Node] = []
        self.path = path
        self.works: list[Work] = []
        self.products: list[Var] = []  # results of matrix products, in order
        self.attended: list[Var] = []  # results of attention kernels
        self.source: Var | None = None  # what cross-attention reads: the encoder's result
        self.carried: list[Var] = []  # tensors that later layers read too, and have sent gradients to
        self.exchanges: list[Exchange] = []  # buffers of context-parallel attention
        self.passing: list[Size] = []  # what is alive during its forward
        self.returned: list[Var] = []  # held by Python's variables until the layer is through
        self.beside: Size = ZERO  # made elsewhere and held while its forward runs
        self.attached: list[Var] = []  # what functions hold as attributes: until the graph itself is gone
        self.expanded: Size = ZERO  # the last quantised matrix while its product reads it, whole
        self.update = update  # bytes that the optimizer makes for each byte of a gradient as soon as it is there
        self.beyond: list[Var] = []  # kept though the layer is recomputed: made outside of its checkpoint
        self.cacheable: list[Var] = []  # keys and values, as a cache holds them
        self.result: Var | None = None  # what the model returns beside the loss
        self.copies: dict[Var, Var] = {}  # in few bits, of what several matrix products read
        self.messages: list[Message] = []

    def emit(
        self,
        name: str,
        inputs: Sequence[Var],
        elements: Size,
        each: int,
        saves: Iterable[Var] = (),
        steps: Sequence[Step] | None = None,
        *,
        trained: bool = False,
    ) -> Var:
        """Record an operation. Without `steps` its backward allocates one gradient for each input that needs one.

        `trained`: a parameter of the operation needs a gradient, even when no input does.
        """
        needs = trained or any(var.grad for var in inputs)
        out = Var(elements, each, needs, f"{self.path}/{name}" if self.path else name)
        if needs:
            if steps is None:
                steps = [Step("input", var.bytes, i) for i, var in enumerate(inputs)]
            kept = tuple(s for s in steps if s.kind not in GRADIENTS or inputs[s.source].grad)
            stored = dict.fromkeys(_storage(var) for var in saves)
            self.nodes.append(Node(name, out, tuple(inputs), tuple(var for var in stored if not var.outside), kept))
        return out

    def multiply(
        self, name: str, forward: Size, backward: float | Size, *, causal: bool = False, window: int | None = None,
        chunked: bool = False, shape: MatrixShape | HeadsShape | None = None,
    ) -> None:  # fmt: skip
        """Record the FLOPs of an operation; its backward as a multiple (one for each operand with a gradient) or whole."""
        after = backward if isinstance(backward, Size) else forward * backward
        label = f"{self.path}/{name}" if self.path else name
        self.works.append(Work(label, forward, after, causal, window, chunked, shape))

    def send(
        self, axis: str, size: Size, forward: tuple[str, ...], backward: tuple[str, ...], copies: float = 1.0
    ) -> None:  # fmt: skip
        """Record what ranks send each other."""
        self.messages.append(Message(axis, size, forward, backward, copies))

    def hold(self, *variables: Var) -> None:
        """Python's variables hold these until the last operation is through."""
        if self.nodes:
            self.nodes[-1].inputs = (*self.nodes[-1].inputs, *variables)

    # --- what is kept -------------------------------------------------------------------------------------------------

    def saved(self) -> list[Var]:
        """Every distinct tensor that is kept for the backward pass, in the order it was saved."""
        return list(dict.fromkeys(var for node in self.nodes for var in node.saves if not var.discarded))

    def history(self, made: Iterable[Var]) -> list[Var]:
        """What the operations that made these tensors save, but for the tensors themselves."""
        wanted, found = set(made), dict[Var, None]()
        own = {_storage(var) for var in wanted}
        for node in reversed(self.nodes):
            if node.out in wanted:
                wanted.update(node.inputs)
                found.update(dict.fromkeys(var for var in node.saves if var not in own))
        return list(found)

    def saved_bytes(self) -> Size:
        return sum_of(var.bytes for var in self.saved())

    def discard(self, *dropped: Var) -> None:
        """What has just been recorded is the last reader of these tensors: they are made again when its backward begins."""
        node = self.nodes[-1]
        for var in dropped:
            storage = _storage(var)
            if not (storage.discarded or storage.outside):
                storage.discarded = True
                node.again = (*node.again, storage)

    def recompute(self, since: int, *kept: Var) -> None:
        """What operations from number `since` on saved is dropped, but for `kept`, and made again before their backward."""
        held = {_storage(var) for var in kept}
        self.discard(*(var for node in self.nodes[since:] for var in node.saves if var not in held))

    def chosen(self) -> list[Var]:
        """What recomputation by operation keeps: attention's results and every second matrix product's, from the first on
        (torchtitan/distributed/activation_checkpoint.py, _get_custom_policy)."""
        return [*self.attended, *self.products[::2]]

    def weight_gradient_bytes(self) -> Size:
        return sum_of(step.bytes for node in self.nodes for step in node.steps if step.kind == "weight")


def _storage(var: Var) -> Var:
    """What saving a tensor keeps alive: a view keeps the whole."""
    return var.whole or var
