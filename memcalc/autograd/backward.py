"""A tape run backwards as autograd's engine does: what is alive at every moment that could be the peak."""

from memcalc.autograd.tape import ZERO, Node, Size, Tape, Tensor, Var, sum_of

# What an allocation is, beside the tensor that it is made for.
NAMES = {
    "input": "gradient", "sum": "gradient, summed", "weight": "weight's gradient", "temp": "temporary", "passing": "temporary",
}  # fmt: skip


def backward(tape: Tape, output: Var | None, *, gradients: bool = True, again: bool = False) -> tuple[Size, ...]:
    """Candidate peaks of running the tape backwards, in bytes above what other layers hold.

    Counted are the tape's saved tensors, the gradients in flight and, with `gradients`, the parameter gradients made
    here so far (without it they leave at once, as sharded engines reduce them away). `output` is where the incoming
    gradient arrives; None means the tape ends in a loss. `again`: recomputation made what was saved. Candidates covered by
    another are dropped.
    """
    return that_can_be_highest(_run(tape, output, gradients, again).candidates)


def alive(tape: Tape, output: Var | None, which: int, *, gradients: bool = True, again: bool = False) -> tuple[Tensor, ...]:
    """The tensors that candidate number `which` of `backward` consists of."""
    peak = backward(tape, output, gradients=gradients, again=again)[which]
    return _run(tape, output, gradients, again, peak).found


def arriving(tape: Tape, output: Var | None) -> Size:
    """Gradients in flight when a backward first reads what was saved, which is when recomputation makes it; those of parameters
    outside of the checkpoint among them."""
    run = Backward(tape, keep_gradients=bool(tape.beyond))
    for var in (*tape.carried, output):
        if var is not None:
            run.receive(var)
    for node in reversed(tape.nodes):
        if node.out in run.pending and any(var not in tape.beyond for var in node.saves):
            break
        run.execute(node)
    return sum_of(buffer.bytes for buffer in run.buffers)


def _run(tape: Tape, output: Var | None, gradients: bool, again: bool, watched: Size | None = None) -> "Backward":
    run = Backward(tape, gradients, watched, again=again)
    for var in (*tape.carried, output):
        if var is not None:
            run.receive(var)
    for node in reversed(tape.nodes):
        run.execute(node)
    return run


class GradientBuffer:
    """An allocation of the backward for a tensor: a temporary, or a gradient shared by everyone who holds it."""

    __slots__ = ("bytes", "holders", "kind", "var")

    def __init__(self, size: Size, var: Var, kind: str) -> None:
        self.bytes, self.var, self.kind = size, var, kind
        self.holders = 0

    @property
    def tensor(self) -> Tensor:
        label = f"{self.var.label} {NAMES[self.kind]}"
        if self.kind in ("input", "sum") and self.bytes == self.var.bytes:
            return Tensor(label, self.var.elements, self.var.each)
        return Tensor(label, self.bytes)


class Backward:
    """Autograd's engine on a tape: nodes in reverse order, saved tensors released once their last user has run.

    `found` holds what is alive when so many bytes as `watched` are, for the first time.
    """

    def __init__(self, tape: Tape, keep_gradients: bool, watched: Size | None = None, *, again: bool = False) -> None:
        self.keep_gradients, self.again = keep_gradients, again
        self.update = 0.0 if keep_gradients else tape.update
        self.live = ZERO
        self.candidates: list[Size] = []
        self.pending: dict[Var, GradientBuffer] = {}
        self.users: dict[Var, int] = {}
        self.absent: set[Var] = set()  # saved, but not made again yet
        self.buffers: dict[GradientBuffer, None] = {}
        self.watched = watched
        self.found: tuple[Tensor, ...] = ()
        for node in tape.nodes:
            for var in node.saves:
                if var.discarded:
                    self.absent.add(var)
                elif var not in self.users:
                    self.live = self.live + var.bytes
                self.users[var] = self.users.get(var, 0) + 1
        self._look()

    def receive(self, var: Var) -> None:
        """The gradient that later layers send."""
        self._hand(var, self.allocate(var.bytes, var, "input"))

    def execute(self, node: Node) -> None:
        incoming = self.pending.pop(node.out, None)
        if incoming is None and node.name != "loss":
            return  # nothing flows here
        self.make_again(node)
        arriving, temporaries, stepped = self._run_steps(node, incoming)
        for buffer in temporaries:
            self.free(buffer)
        if incoming is not None:
            self._release(incoming)
        for var in node.saves if not self._casts(node) else ():
            self._used(var)
        for gradient in stepped:
            self.free(self.allocate(gradient.bytes * self.update, gradient.var, "temp"))
            self.free(gradient)
        for var, buffer in arriving:
            if buffer is incoming:
                buffer.holders -= 1
            self._hand(var, buffer)

    def _run_steps(
        self, node: Node, incoming: GradientBuffer | None
    ) -> tuple[list[tuple[Var, GradientBuffer]], list[GradientBuffer], list[GradientBuffer]]:
        """The allocations of an operation's backward: gradients on their way to its inputs, what leaves at once, and gradients
        of parameters that the optimizer uses up once the operation is through."""
        arriving: list[tuple[Var, GradientBuffer]] = []
        temporaries: list[GradientBuffer] = []
        stepped: list[GradientBuffer] = []
        passing: list[GradientBuffer] = []
        for step in node.steps:
            if step.kind == "share":
                assert incoming is not None
                incoming.holders += 1  # kept past the release of the operation's own
                arriving.append((node.inputs[step.source], incoming))
                continue
            kind = "input" if step.kind in ("over", "cast") else step.kind
            of = node.inputs[step.source] if kind == "input" else node.out
            if step.kind == "over":
                self._used(of)
            for var in node.saves if step.kind == "cast" and self.again else ():
                self._used(var)
            buffer = self.allocate(step.bytes, of, kind)
            while passing:
                self.free(passing.pop())
            if kind == "input":
                arriving.append((of, buffer))
            elif step.kind == "weight" and self.update:
                stepped.append(buffer)
            elif step.kind == "passing":
                passing.append(buffer)
            elif step.kind == "temp" or not self.keep_gradients:
                temporaries.append(buffer)
        return arriving, temporaries, stepped

    def _casts(self, node: Node) -> bool:
        """Whether its saved tensors left before its gradients were cast: nothing but the operation refers to what was made
        again for it."""
        return self.again and any(step.kind == "cast" for step in node.steps)

    def make_again(self, node: Node) -> None:
        """What the forward dropped is there again before the backward of the last operation that reads it."""
        for var in node.again:
            if var in self.absent:
                self.absent.discard(var)
                self.live = self.live + var.bytes
                self._look()

    def _used(self, var: Var) -> None:
        """A node is through with a saved tensor; one that was written over has gone already."""
        if self.users[var]:
            self.users[var] -= 1
            if self.users[var] == 0 and var not in self.absent:
                self.let_go(var)

    def let_go(self, var: Var) -> None:
        """A saved tensor has had its last user."""
        self.live = self.live - var.bytes

    def _hand(self, var: Var, buffer: GradientBuffer) -> None:
        """A gradient reaches a tensor; a second one is added out of place, and both addends leave."""
        buffer.holders += 1
        held = self.pending.get(var)
        if held is None:
            self.pending[var] = buffer
            return
        total = self.allocate(var.bytes, var, "sum")
        total.holders = 1
        self.pending[var] = total
        self._release(held)
        self._release(buffer)

    def allocate(self, size: Size, var: Var, kind: str) -> GradientBuffer:
        buffer = GradientBuffer(size, var, kind)
        self.buffers[buffer] = None
        self.live = self.live + size
        self._look()
        return buffer

    def _look(self) -> None:
        self.candidates.append(self.live)
        if self.live == self.watched and not self.found:
            saved = tuple(var.tensor for var, users in self.users.items() if users and var not in self.absent)
            self.found = (*saved, *(buffer.tensor for buffer in self.buffers))

    def _release(self, buffer: GradientBuffer) -> None:
        buffer.holders -= 1
        if buffer.holders == 0:
            self.free(buffer)

    def free(self, buffer: GradientBuffer) -> None:
        del self.buffers[buffer]
        self.live = self.live - buffer.bytes


def that_can_be_highest(candidates: list[Size]) -> tuple[Size, ...]:
    """Sizes not covered by another candidate."""
    kept: list[Size] = []
    for candidate in sorted(set(candidates), reverse=True):
        if not any(other.covers(candidate) for other in kept):
            kept.append(candidate)
    return tuple(kept)
