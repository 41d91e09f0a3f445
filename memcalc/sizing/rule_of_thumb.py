"""Bytes per parameter of training, by the rule of thumb."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memcalc.estimates.rule_of_thumb import RuleOfThumb, rows, stored_only, usual_and_others
from memcalc.frozen import NamedTuple
from memcalc.sizing.answer import Reported

if TYPE_CHECKING:
    from memcalc.report.report import Report


class BytesTable(NamedTuple):
    """Rows of precision × optimizer, for so many parameters: the first `usual` are those that most people ask about.

    `formats`: number formats that were asked for by name, to store in alone.
    """

    rows: tuple[RuleOfThumb, ...]
    params: int
    usual: int
    formats: tuple[str, ...] = ()


class SizedBytes(Reported, BytesTable):
    """The rule of thumb as an answer that has a report."""

    def report(self) -> "Report":
        from memcalc.report.rule_of_thumb import report

        return report(self.rows[: self.usual], self.params, others=self.rows[self.usual :], formats=self.formats)


def bytes_per_parameter(params: int, precisions: Sequence[str] = (), optimizers: Sequence[str] = ()) -> SizedBytes:
    """One row a combination; empty: all precisions, the common optimizers.

    >>> bytes_per_parameter(10**9, ["fp32"], ["adamw"]).rows[0].bytes.train
    24.0
    """
    if not (precisions or optimizers):
        usual, others = usual_and_others()
        return SizedBytes((*usual, *others), params, len(usual))
    train, formats = stored_only(precisions)
    found = tuple(rows(train, optimizers)) if train or not formats else ()
    return SizedBytes(found, params, len(found), tuple(formats))
