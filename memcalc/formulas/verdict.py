"""Whether it fits: what is needed, with the range that it may come to, against what a process can get."""

from typing import Literal

from memcalc.frozen import NamedTuple

Verdict = Literal["no", "tight", "fits"]
VERDICTS: tuple[Verdict, ...] = ("no", "tight", "fits")  # from worst to best


class Needed(NamedTuple):
    """Bytes on a GPU, and the range in which they may end. The point is never outside its range."""

    bytes: int
    low: int
    high: int


class Fit(NamedTuple):
    """What is needed beside what there is [B]."""

    needed: Needed
    limit: int  # bytes that the process can get

    @property
    def headroom(self) -> int:
        """What is left; below zero, what is missing [B]."""
        return self.limit - self.needed.bytes

    @property
    def verdict(self) -> Verdict:
        return verdict(self.needed.bytes, self.needed.high, self.limit)

    @property
    def fits(self) -> bool:
        """Whether it may run: sure or tight."""
        return self.verdict != "no"


def verdict(needed: int, high: int, limit: int) -> Verdict:
    """The three answers: "no" where the need itself is above the limit, "tight" where only its range is, else "fits".

    needed, high (the upper end of its range), limit [B].

    >>> verdict(needed=70, high=90, limit=60), verdict(70, 90, 80), verdict(70, 90, 90)
    ('no', 'tight', 'fits')
    """
    return "no" if needed > limit else "tight" if high > limit else "fits"


def needed_bytes(point: int, low: float, high: float, of: int | None = None) -> Needed:
    """A point with the range around it, which always holds the point.

    point + of × low … point + of × high      low, high: shares of `of` [B], the part that varies; None: of the point itself.
    Returns bytes [B].

    >>> needed_bytes(1000, low=0.05, high=0.4), needed_bytes(1000, low=-0.01, high=0.02, of=500)
    (Needed(bytes=1000, low=1000, high=1400), Needed(bytes=1000, low=995, high=1010))
    """
    part = point if of is None else of
    return Needed(point, point + round(part * min(low, 0.0)), point + round(part * max(high, 0.0)))
