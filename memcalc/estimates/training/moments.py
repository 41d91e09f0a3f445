"""Moments of a step: each is a sum of terms, known before batch and length are, and which of them can be the peak."""

from collections.abc import Callable, Iterable

from memcalc.autograd.tape import ZERO, Size, Tensor
from memcalc.estimates.lines import Line
from memcalc.frozen import NamedTuple


class Moment(NamedTuple):
    """What is alive beside the model states at one moment; bytes."""

    name: str
    activations: int
    gradients: int
    communication: int

    @property
    def bytes(self) -> int:
        return self.activations + self.gradients + self.communication

    @classmethod
    def of(cls, name: str, lines: Iterable[Line]) -> "Moment":
        """A moment of so many lines."""
        sums = dict.fromkeys(cls._fields[1:], 0)
        for entry in lines:
            sums[entry.component] += entry.bytes
        return cls(name, **sums)


class Term(NamedTuple):
    """Activations that are alive together: so many bytes, so many times; the tensors are listed when somebody asks."""

    path: str
    size: Size
    copies: float
    tensors: Callable[[], tuple[Tensor, ...]]

    @classmethod
    def one(cls, path: str, size: Size) -> "Term":
        """A term that is one tensor, named by the end of its path."""
        prefix, slash, name = path.rpartition("/")
        return cls(prefix + slash, size, 1, lambda: (Tensor(name, size),))

    def times(self, copies: float) -> "Term":
        return Term(self.path, self.size, copies, self.tensors)


class MomentForm(NamedTuple):
    """A moment before batch and length are known: the sum of its terms and lines."""

    name: str
    activations: Size
    gradients: int
    communication: int
    terms: tuple[Term, ...]
    lines: tuple[Line, ...]  # gradients and communication

    @classmethod
    def of(cls, name: str, terms: Iterable[Term], lines: Iterable[Line] = ()) -> "MomentForm":
        terms = tuple(term for term in terms if term.copies and term.size != ZERO)
        lines = tuple(entry for entry in lines if entry.bytes and entry.place == "gpu")
        sums = {"gradients": 0, "communication": 0}
        for entry in lines:
            sums[entry.component] += entry.bytes
        return cls(name, total(terms), **sums, terms=terms, lines=lines)

    def beside(self, term: Term) -> "MomentForm":
        """The same with one more term."""
        activations = self.activations + term.size * term.copies
        return MomentForm(self.name, activations, self.gradients, self.communication, (*self.terms, term), self.lines)

    @property
    def constant(self) -> float:
        """Bytes whatever the batch and the length."""
        return self.activations.fixed + self.gradients + self.communication

    def covers(self, other: "MomentForm") -> bool:
        """Never smaller than the other, whatever the batch and the length."""
        mine, theirs = self.activations, other.activations
        larger = mine.token >= theirs.token and mine.pair >= theirs.pair and mine.position >= theirs.position
        return larger and self.constant >= other.constant


def total(terms: Iterable[Term]) -> Size:
    """The sum of terms as one linear form."""
    token = pair = fixed = position = 0.0
    for _, size, copies, _ in terms:
        token += size[0] * copies
        pair += size[1] * copies
        fixed += size[2] * copies
        position += size[3] * copies
    return Size(token, pair, fixed, position)


def that_can_be_highest(forms: list[MomentForm]) -> tuple[MomentForm, ...]:
    """The moments that can be the highest at some batch and length."""
    kept: list[MomentForm] = []
    for form in sorted(forms, key=lambda f: (f.activations, f.constant), reverse=True):
        if not any(other.covers(form) for other in kept):
            kept.append(form)
    alike: dict[tuple[float, float], list[MomentForm]] = {}
    for form in kept:
        alike.setdefault((form.activations.pair, form.activations.position), []).append(form)
    highest = {id(form) for some in alike.values() for form in _envelope(some)}
    return tuple(form for form in kept if id(form) in highest)


def _envelope(forms: list[MomentForm]) -> list[MomentForm]:
    """Of straight lines over the tokens, those that are the highest somewhere; none covers another."""
    out: list[MomentForm] = []
    for form in sorted(forms, key=lambda f: f.activations.token):
        while len(out) > 1 and _below(out[-2], out[-1], form):
            out.pop()
        out.append(form)
    return out


def _below(flat: MomentForm, middle: MomentForm, steep: MomentForm) -> bool:
    """Whether the steep line has crossed the flat one before the middle one does."""
    rise = middle.activations.token - flat.activations.token, steep.activations.token - flat.activations.token
    fall = flat.constant - middle.constant, flat.constant - steep.constant
    return fall[1] * rise[0] <= fall[0] * rise[1]
