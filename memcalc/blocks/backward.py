"""A tape run backwards as autograd's engine does: what is alive at every moment that could be the peak."""

from memcalc.blocks.tape import ZERO, Node, Size, Tape, Var


def backward(tape: Tape, output: Var | None, *, gradients: bool = True) -> tuple[Size, ...]:
    """Candidate peaks of running the tape backwards, in bytes above what other layers hold.

    Counted are the tape's saved tensors, the gradients in flight and, with `gradients`, the parameter gradients made
    here so far (without it they leave at once, as sharded engines reduce them away). `output` is where the incoming
    gradient arrives; None means the tape ends in a loss. Candidates covered by another are dropped.
    """
    run = _Backward(tape, gradients)
    for var in (*tape.carried, output):
        if var is not None:
            run.receive(var)
    for node in reversed(tape.nodes):
        run.execute(node)
    return _pareto(run.candidates)


class _Buffer:
    """A gradient in memory, shared by everyone who holds it."""

    __slots__ = ("bytes", "holders")

    def __init__(self, size: Size) -> None:
        self.bytes = size
        self.holders = 0


class _Backward:
    """Autograd's engine on a tape: nodes in reverse order, saved tensors released once their last user has run."""

    def __init__(self, tape: Tape, keep_gradients: bool) -> None:
        self.keep_gradients = keep_gradients
        self.live = ZERO
        self.candidates: list[Size] = []
        self.pending: dict[Var, _Buffer] = {}
        self.users: dict[Var, int] = {}
        for node in tape.nodes:
            for var in node.saves:
                if var not in self.users:
                    self.live = self.live + var.bytes
                self.users[var] = self.users.get(var, 0) + 1
        self.candidates.append(self.live)

    def receive(self, var: Var) -> None:
        """The gradient that later layers send."""
        self._allocate(var.bytes)
        self._hand(var, _Buffer(var.bytes))

    def execute(self, node: Node) -> None:
        incoming = self.pending.pop(node.out, None)
        if incoming is None and node.name != "loss":
            return  # nothing flows here
        temporaries = ZERO
        arriving: list[tuple[Var, _Buffer]] = []
        for step in node.steps:
            if step.kind == "share":
                assert incoming is not None
                incoming.holders += 1  # kept past the release below
                arriving.append((node.inputs[step.source], incoming))
                continue
            self._allocate(step.bytes)
            if step.kind == "input":
                arriving.append((node.inputs[step.source], _Buffer(step.bytes)))
            elif step.kind == "temp" or not self.keep_gradients:
                temporaries = temporaries + step.bytes
        self.live = self.live - temporaries
        if incoming is not None:
            self._release(incoming)
        for var in node.saves:
            self.users[var] -= 1
            if self.users[var] == 0:
                self.live = self.live - var.bytes
        for var, buffer in arriving:
            if buffer is incoming:
                buffer.holders -= 1
            self._hand(var, buffer)

    def _hand(self, var: Var, buffer: _Buffer) -> None:
        """A gradient reaches a tensor; a second one is added out of place, and both addends leave."""
        buffer.holders += 1
        held = self.pending.get(var)
        if held is None:
            self.pending[var] = buffer
            return
        total = _Buffer(var.bytes)
        self._allocate(total.bytes)
        total.holders = 1
        self.pending[var] = total
        self._release(held)
        self._release(buffer)

    def _allocate(self, size: Size) -> None:
        self.live = self.live + size
        self.candidates.append(self.live)

    def _release(self, buffer: _Buffer) -> None:
        buffer.holders -= 1
        if buffer.holders == 0:
            self.live = self.live - buffer.bytes


def _pareto(candidates: list[Size]) -> tuple[Size, ...]:
    """Those not covered by another candidate."""
    kept: list[Size] = []
    for candidate in sorted(set(candidates), reverse=True):
        if not any(other.covers(candidate) for other in kept):
            kept.append(candidate)
    return tuple(kept)
