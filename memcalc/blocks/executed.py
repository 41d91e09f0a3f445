"""What a piece of a model executes in a training step: products, attention, bytes through memory, kernels, messages.

Read from the same tape as what autograd keeps. An operation that is no product reads its inputs and writes its result; its
backward reads the gradient that arrives and what was saved, and writes what it allocates. Views move nothing.
"""

from collections import Counter

from memcalc.autograd.operations import WEIGHT_CAST
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import HeadsShape, MatrixShape, Message, Node, Size, Tape, Work, sum_of
from memcalc.blocks.architecture import Layer, Named
from memcalc.blocks.forwards import entry_onto_tape, exit_onto_tape, layer_onto_tape
from memcalc.caches import cached
from memcalc.frozen import dataclass

ATTENTION = ("attention", "attention core")  # nodes that are one attention kernel


@dataclass(frozen=True, eq=False)
class Executed:
    """One layer, or what comes before or after all layers. Compared by identity, so that caches keyed by it stay cheap."""

    matrices: tuple[tuple[str, MatrixShape], ...]  # by path
    attentions: tuple[Work, ...]  # with the heads' shape
    others: tuple[Work, ...]  # products of no known shape
    forward: Size  # bytes through memory of all else
    backward: Size
    forward_kernels: int
    backward_kernels: int
    messages: tuple[Message, ...]
    stretched: float = 1.0  # tokens of a sequence over those of the decoder

    def forward_flops(self, tokens: float, pairs: float) -> tuple[float, float]:
        """Of a sequence of so many tokens in the decoder: of matrix products, and of attention over unmasked pairs."""
        longer = self.stretched
        products = sum(2 * shape.rows * shape.outputs * shape.inputs for _, shape in self.matrices) * tokens * longer
        attended = sum(work.forward.at(0, pairs) * (0.5 if work.causal else 1.0) for work in self.attentions) * longer**2
        return products, attended

    def flops(self, tokens: float, pairs: float) -> tuple[float, float]:
        """Of so many tokens, and pairs that attend to each other: forward, and of all gradients backward."""
        products = [(2 * shape.rows * shape.outputs * shape.inputs * tokens, shape) for _, shape in self.matrices]
        attended = [
            (work.forward.at(0, min(pairs, tokens * (work.window or pairs))) * (0.5 if work.causal else 1.0), work.shape)
            for work in self.attentions
        ]
        ahead = sum(flops for flops, _ in (*products, *attended))
        back = sum(flops * (shape.input_grad + shape.weight_grad) for flops, shape in products)
        return ahead, back + sum(2 * flops for flops, shape in attended if isinstance(shape, HeadsShape) and shape.grad)


@cached(1024)
def layer_executed(layer: Layer, profile: Profile, hidden: int, *, input_grad: bool = True) -> Executed:
    """One layer under one profile. Raises Unsupported for a block that cannot record."""
    tape, _, _ = layer_onto_tape(layer, profile, hidden, input_grad)
    return tape_executed(tape, profile, profile.batch.source if layer.source else 1.0)


@cached(1024)
def entry_executed(blocks: Named, profile: Profile) -> Executed:
    """The embedding and what follows it before the first layer."""
    return tape_executed(entry_onto_tape(blocks, profile)[0], profile)


@cached(1024)
def exit_executed(blocks: Named, profile: Profile, hidden: int) -> Executed:
    """Final norm, head and loss."""
    return tape_executed(exit_onto_tape(blocks, profile, hidden)[0], profile)


def tape_executed(tape: Tape, profile: Profile, stretched: float = 1.0) -> Executed:
    """Of a tape recorded under a profile; `stretched`: its tokens over the decoder's."""
    matrices = tuple((work.name, work.shape) for work in tape.works if isinstance(work.shape, MatrixShape))
    attentions = tuple(work for work in tape.works if isinstance(work.shape, HeadsShape))
    others = tuple(work for work in tape.works if work.shape is None)
    products = {work.name for work in tape.works} | {work.name.replace("experts ", "") for work in tape.works}
    forward, backward = Size(), Size()
    kernels = after = 0
    inside = _inside_chains(tape, products) if profile.kernels.fused_chains else frozenset()
    for node in tape.nodes:
        if node.out.label in products or node.name in ATTENTION:
            kernels += 1
            after += sum(step.kind in ("weight", "input", "over", "cast") for step in node.steps)
            continue
        if (node.out.whole is None and node.steps != ()) or (node.out.whole is None and not node.out.grad):
            forward = forward + _read(node, inside)
            if id(node.out) not in inside:
                forward = forward + node.out.bytes
                kernels += 1
        moved, launched = _backward(node)
        backward, after = backward + moved, after + launched
    backward = backward + _summed(tape)
    return Executed(
        matrices, attentions, others, forward, backward, kernels + _hidden(tape), after, tuple(tape.messages), stretched
    )  # fmt: skip


def _read(node: Node, inside: frozenset[int]) -> Size:
    """What its forward reads; a cast of a weight reads the weight."""
    if node.name.endswith(WEIGHT_CAST):
        return sum_of(step.bytes for step in node.steps)
    return sum_of({id(var): var.bytes for var in node.inputs if id(var) not in inside}.values())


def _inside_chains(tape: Tape, products: set[str]) -> frozenset[int]:
    """Tensors that exist inside one fused kernel alone: made by a pointwise operation, read by one other, kept by none
    (torch/_inductor/scheduler.py, vertical fusion)."""
    pointwise = [node for node in tape.nodes if node.out.label not in products and node.name not in ATTENTION]
    readers = Counter(id(var) for node in tape.nodes for var in node.inputs)
    fused = {id(var) for node in pointwise for var in node.inputs}
    kept = {id(var) for node in tape.nodes for var in node.saves}
    return frozenset(id(node.out) for node in pointwise if readers[id(node.out)] == 1 and id(node.out) in fused - kept)


def _backward(node: Node) -> tuple[Size, int]:
    """Bytes that its backward reads and writes, and kernels: temporaries are written and read once."""
    made = [step for step in node.steps if step.kind != "share"]
    if not made:
        return Size(), 0
    written = sum_of(step.bytes * (2 if step.kind in ("temp", "passing") else 1) for step in made)
    gradient = node.out.bytes if node.out.elements.token or node.out.elements.pair else Size()
    saved = sum_of(var.bytes for var in node.saves if var.elements.token or var.elements.pair)
    return gradient + saved + written, len(made)


def _summed(tape: Tape) -> Size:
    """Gradients that several operations send to one tensor are added up: two read, one written, for each but the first."""
    readers = Counter(id(var) for node in tape.nodes for var in node.inputs if var.grad)
    sizes = {id(var): var.bytes for node in tape.nodes for var in node.inputs if var.grad}
    return sum_of(sizes[key] * (3 * (count - 1)) for key, count in readers.items() if count > 1)


def _hidden(tape: Tape) -> int:
    """Kernels of operations that needed no gradient, and so are not on the tape: their products."""
    return max(0, len(tape.works) - len(tape.nodes))
