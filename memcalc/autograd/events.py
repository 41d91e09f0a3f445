"""What a piece of a model allocates and frees, in order: the forward of its tape, the same without autograd, its backward.

Every tensor is a key. Four of them pass the piece's borders: its input and its output, and their gradients.
"""

from collections.abc import Container
from itertools import count

from memcalc.autograd.backward import Backward, GradientBuffer, that_can_be_highest
from memcalc.autograd.operations import WEIGHT_CAST
from memcalc.autograd.tape import ZERO, Node, Size, Tape, Var
from memcalc.caches import cached_property
from memcalc.frozen import NamedTuple

AT_ONCE = ("norm", "dropout")  # operations that make statistics or a mask, which they save, together with their result
INPUT, OUTPUT, OUTPUT_GRADIENT, INPUT_GRADIENT = range(4)  # keys of what passes the borders
FIRST = 4  # key of the first tensor inside


class Event(NamedTuple):
    """A tensor of so many bytes appears, or (none) leaves."""

    key: int
    bytes: Size | None


class Piece:
    """Events of one layer, of the entry or of the exit, made from its tape when they are asked for.

    `chosen`: recomputation keeps the results of chosen operations; `held`: bytes of what is referred to until the forward
    ends, though nothing saves it.
    """

    def __init__(self, tape: Tape, x: Var | None, output: Var | None, *, chosen: bool = False, held: Size = ZERO) -> None:
        self._tape, self._x, self._output, self._held = tape, x, output, held
        self._keys = _Keys(x, output)
        self._saved = set(tape.saved())
        self._kept = {var.whole or var for var in tape.chosen()} if chosen else set[Var]()
        self._casts = [node.out for node in tape.nodes if node.out.label.endswith(WEIGHT_CAST)]

    @cached_property
    def forward(self) -> tuple[Event, ...]:
        """What the backward needs is left alive."""
        return _forward(self._tape, self._keys, self._saved, self._x, self._output, held=self._held)

    @cached_property
    def discarding(self) -> tuple[Event, ...]:
        """The forward that keeps nothing but what recomputation keeps."""
        kept = self._kept.union(self._casts)
        return _forward(self._tape, self._keys, kept, self._x, self._output, input_kept=True)

    @cached_property
    def again(self) -> tuple[Event, ...]:
        """The forward that recomputation repeats."""
        return _forward(self._tape, self._keys, self._saved, self._x, self._output, input_kept=True, there=self._kept)

    @cached_property
    def _run(self) -> "_Recorder":
        return _Recorder(self._tape, self._keys, self._output, True)

    @property
    def backward(self) -> tuple[Event, ...]:
        return tuple(self._run.events)

    @cached_property
    def accumulating(self) -> tuple[Event, ...]:
        """The backward whose parameters' gradients are added to others at once."""
        return tuple(_Recorder(self._tape, self._keys, self._output, False).events)

    @property
    def gradients(self) -> tuple[int, ...]:
        """Keys of parameters' gradients, which the backward leaves."""
        return tuple(self._run.gradients)

    @property
    def casts(self) -> tuple[int, ...]:
        """Keys of weights' casts, which autocast keeps until the whole forward ends."""
        return tuple(map(self._keys.of, self._casts))


class _Keys:
    """A key for every tensor; a view has that of the whole."""

    def __init__(self, x: Var | None, output: Var | None) -> None:
        self._of: dict[Var, int] = {}
        self._next = count(FIRST)
        if output is not None:
            self._of[output.whole or output] = OUTPUT
        if x is not None:
            self._of[x] = INPUT

    def of(self, var: Var) -> int:
        var = var.whole or var
        if var not in self._of:
            self._of[var] = next(self._next)
        return self._of[var]

    def fresh(self) -> int:
        return next(self._next)


def _forward(
    tape: Tape, keys: _Keys, saved: Container[Var], x: Var | None, output: Var | None, *,
    input_kept: bool = False, there: Container[Var] = (), held: Size = ZERO, until: int | None = None,
) -> tuple[Event, ...]:  # fmt: skip
    """Each operation makes its result and what it saves; a tensor that nothing saves leaves after its last reader."""
    readers = {var.whole or var: index for index, node in enumerate(tape.nodes) for var in node.inputs}
    leaving: dict[int, list[Var]] = {}
    for var, index in readers.items():
        leaving.setdefault(index, []).append(var)
    staying, rest = _held(tape, saved, held)
    alive: set[Var] = {x} if x is not None else set()
    events: list[Event] = []
    temporary = keys.fresh() if rest != ZERO else 0
    for index, node in enumerate(tape.nodes[:until]):
        for var in (node.out, *node.saves):
            whole = var.whole or var
            if whole in alive or (whole is not node.out and whole not in saved) or whole in there:
                continue
            alive.add(whole)
            events.append(Event(keys.of(whole), whole.bytes))
        if node.name == "loss" and temporary:
            events.append(Event(temporary, rest))
        unread = [node.out] if (node.out.whole or node.out) not in readers and node.out.whole is None else []
        for var in (*leaving.get(index, ()), *unread):
            stays = var in saved or var is output or var in staying or (input_kept and var is x)
            if var in alive and not stays:
                alive.discard(var)
                events.append(Event(keys.of(var), None))
    events += [Event(keys.of(var), None) for var in staying if var in alive]
    if temporary:
        events.append(Event(temporary, None))
    return tuple(events)


def forward_peaks(tape: Tape, x: Var | None, output: Var | None, held: Size = ZERO) -> tuple[Size, ...]:
    """Candidate peaks of a forward that keeps nothing for a backward, above its input; casts of weights are not counted, for
    autocast keeps those of all layers. `held`: bytes of what is referred to until the forward ends."""
    casts = {node.out for node in tape.nodes if node.out.label.endswith(WEIGHT_CAST)}
    alive: dict[int, Size] = {}
    live, found = ZERO, [ZERO]
    for event in _forward(tape, _Keys(x, output), (), x, output, input_kept=True, there=casts, held=held):
        if event.bytes is None:
            live = live - alive.pop(event.key, ZERO)
        else:
            live, alive[event.key] = live + event.bytes, event.bytes
        found.append(live)
    return that_can_be_highest(found)


def passing_peaks(
    tape: Tape, x: Var | None, output: Var | None, *, again: bool = False, result: Var | None = None
) -> tuple[Size, ...]:
    """Candidate peaks of a forward that a backward follows, above its input: what was saved so far, and what just runs.

    `result`: until that is there; `again`: as recomputation repeats it, which stops once the last tensor is saved, a matrix
    that is multiplied with among them (torch/utils/checkpoint.py, early_stop).
    """
    until = next((i + 1 for i, node in enumerate(tape.nodes) if node.out is result), None) if result else None
    if again:
        saving = ((i, node) for i, node in enumerate(tape.nodes) if node.saves or node.out in tape.products)
        until = max((i + (node.out in node.saves or node.name in AT_ONCE) for i, node in saving), default=0)
    alive: dict[int, Size] = {}
    live, found = ZERO, [ZERO]
    for event in _forward(tape, _Keys(x, output), set(tape.saved()), x, output, input_kept=True, until=until):
        if event.bytes is None:
            live = live - alive.pop(event.key, ZERO)
        else:
            live, alive[event.key] = live + event.bytes, event.bytes
        found.append(live)
    return that_can_be_highest(found)


def _held(tape: Tape, saved: Container[Var], held: Size) -> tuple[list[Var], Size]:
    """The last results that make up so many bytes, and the bytes that none makes up."""
    staying: list[Var] = []
    for node in reversed(tape.nodes):
        var = node.out
        if held != ZERO and var.whole is None and var not in saved and held.covers(var.bytes) and var.bytes.token:
            staying.append(var)
            held = held - var.bytes
    return staying, held


class _Recorder(Backward):
    """A backward that writes down what it allocates and frees."""

    def __init__(self, tape: Tape, keys: _Keys, output: Var | None, keep_gradients: bool) -> None:
        super().__init__(tape, keep_gradients)
        self.keys, self.events, self.gradients = keys, [], []
        self.key_of: dict[GradientBuffer, int] = {}
        self.incoming = output is not None
        if output is not None:
            self.receive(output)
        for node in reversed(tape.nodes):
            self.execute(node)
        self._hand_on()

    events: list[Event]
    gradients: list[int]

    def allocate(self, size: Size, var: Var, kind: str) -> GradientBuffer:
        buffer = super().allocate(size, var, kind)
        key = self.key_of[buffer] = OUTPUT_GRADIENT if self.incoming else self.keys.fresh()
        if not self.incoming:
            self.events.append(Event(key, size))
        self.incoming = False
        if kind == "weight":
            self.gradients.append(key)
        return buffer

    def free(self, buffer: GradientBuffer) -> None:
        super().free(buffer)
        self.events.append(Event(self.key_of[buffer], None))

    def make_again(self, node: Node) -> None:
        self.events += [Event(self.keys.of(var), var.bytes) for var in node.again if var in self.absent]
        super().make_again(node)

    def let_go(self, var: Var) -> None:
        super().let_go(var)
        self.events.append(Event(self.keys.of(var), None))

    def _hand_on(self) -> None:
        """The input's gradient leaves by its own key; other gradients that nothing reads are dropped."""
        given = {self.keys.of(var): buffer for var, buffer in self.pending.items()}
        passed = self.key_of[given[INPUT]] if INPUT in given else None
        for buffer in dict.fromkeys(given.values()):
            if self.key_of[buffer] != passed:
                self.events.append(Event(self.key_of[buffer], None))
        rename = {passed: INPUT_GRADIENT}
        self.events = [event._replace(key=rename.get(event.key, event.key)) for event in self.events]
