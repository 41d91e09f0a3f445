"""Bytes per parameter of training, by the rule of thumb."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from memcalc.estimates.rule_of_thumb import RuleOfThumb, rows
from memcalc.sizing.answer import Reported

if TYPE_CHECKING:
    from memcalc.report.report import Report


class BytesTable(NamedTuple):
    """Rows of precision × optimizer, for so many parameters."""

    rows: tuple[RuleOfThumb, ...]
    params: int


class SizedBytes(Reported, BytesTable):
    """The rule of thumb as an answer that has a report."""

    def report(self) -> "Report":
        from memcalc.report.rule_of_thumb import report

        return report(self.rows, self.params)


def bytes_per_parameter(params: int, precisions: Sequence[str] = (), optimizers: Sequence[str] = ()) -> SizedBytes:
    """One row a combination; empty: all precisions, the common optimizers.

    >>> bytes_per_parameter(10**9, ["fp32"], ["adamw"]).rows[0].bytes.train
    24.0
    """
    return SizedBytes(tuple(rows(precisions, optimizers)), params)
