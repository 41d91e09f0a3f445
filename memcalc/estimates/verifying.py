"""A log's numbers beside the prediction: how far each is off, and what was taken for granted."""

from collections.abc import Mapping

from memcalc.frozen import NamedTuple


class Verified(NamedTuple):
    """One number of a log beside its prediction. error = predicted / measured − 1."""

    quantity: str
    unit: str  # B, tokens or requests
    measured: float
    predicted: float | None  # None where nothing predicts it
    line: int
    text: str

    @property
    def error(self) -> float | None:
        if self.predicted is None or not self.measured:
            return None
        return self.predicted / self.measured - 1


class LogSetting(NamedTuple):
    """How the run was read, and where from: a line of the log, what the user said, or assumed."""

    name: str
    value: object
    source: str


class LogVerification(NamedTuple):
    """All numbers of a log, the settings that they are predicted from, and how alike they are."""

    file: str
    program: str
    command: str
    rows: tuple[Verified, ...]
    settings: tuple[LogSetting, ...]
    assumptions: tuple[str, ...]

    @property
    def worst(self) -> Verified | None:
        """The number that is furthest off."""
        known = [row for row in self.rows if row.error is not None]
        return max(known, key=lambda row: abs(row.error or 0.0), default=None)


UNITS: Mapping[str, str] = {"kv_tokens": "tokens", "max_concurrency": "requests"}
