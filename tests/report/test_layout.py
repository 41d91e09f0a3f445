"""Every screen within its width: no line longer, no number broken, nothing over anything else."""

import re
from unittest import mock

import pytest

from memcalc.report import output
from memcalc.report.layout import wrapped
from memcalc.report.report import Column, Quantity, Report, Table
from tests.golden.outputs import Command, commands, printed_report

WIDTHS = (60, 80, 120, 200)
SHOWN = tuple(
    command for command in commands() if "table" in command.formats.values() and not command.name.startswith("import")
)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)? (?:[KMGT]iB|GB|MB|%|FLOP|ms|days?|kWh|MWh|USD|tokens)")


@pytest.mark.parametrize("command", SHOWN, ids=lambda command: command.name)
def test_every_width(command: Command) -> None:
    report = printed_report(command)
    for whole in (False, True):
        for width in WIDTHS:
            with mock.patch.dict("os.environ", {"COLUMNS": str(width)}):
                text = output.render(report, "table", whole=whole)
            too_long = [line for line in text.splitlines() if len(line) > width]
            assert not too_long, f"{width} columns: {too_long[:3]}"
            cut = [line for line in text.splitlines() if re.search(r"\d[.,]$", line.rstrip()) and not line.rstrip().endswith(
                (":", "."))]  # fmt: skip
            assert not [line for line in cut if re.search(r"\d,$", line) and line[-1] == "," and _continues(line, text)]
            shown = report.whole() if whole else report
            for table in shown.tables:
                for row in table.on_screen().rows:
                    for column, value in zip(table.columns, row, strict=True):
                        if column.spare or value is None or column.kind in ("text", "bar"):
                            continue
                        said = output_cell(value, column)
                        assert said in text, f"{width} columns: {said} of {row[0]} is broken or gone"


def output_cell(value: object, column: Column) -> str:
    from memcalc.report.report import cell

    return cell(value, column.kind)


def _continues(line: str, text: str) -> bool:
    """A number cut at its comma goes on with digits on the next line."""
    lines = text.splitlines()
    after = lines[lines.index(line) + 1 : lines.index(line) + 2]
    return bool(after) and bool(re.match(r" *\d{3}\b", after[0]))


@pytest.mark.parametrize(("text", "width", "expected"), [
    ("needs 49.78 GiB of it", 12, ["needs", "49.78 GiB of", "it"]),
    ("micro-batch 1 × 4,096 tokens", 18, ["micro-batch", "1 × 4,096 tokens"]),
    ("paged-adamw-8bit adamw-8bit", 18, ["paged-adamw-8bit", "adamw-8bit"]),
])  # fmt: skip
def test_wrapping(text: str, width: int, expected: list[str]) -> None:
    assert wrapped(text, width) == expected


TABLE = Table(
    "sizes",
    (Column("part"), Column("memory", "bytes"), Column("of GPU", "percent"), Column("", "bar")),
    [("all", 10 * 2**30, 1.5, 1.5), ("weights of the model", 9 * 2**30, 1.35, 1.35), ("dust", 1024, 0.0, 0.0)],
    frozenset({0}), (0, 1, 1), {0: "peak"}, frozenset({2}),
)  # fmt: skip


def test_shares_stay_shares_beyond_the_whole() -> None:
    text = output.render(Report({}, (TABLE,)), "table")
    assert "150.0 %" in text
    assert "│" in text, "the edge of the whole"
    assert "all ← peak" in text, "a mark that needs no colour"
    assert "  weights" in text
    assert "dust" not in text


def test_bars_go_before_words_are_squeezed() -> None:
    with mock.patch.dict("os.environ", {"COLUMNS": "50"}):
        text = output.render(Report({}, (TABLE,)), "table")
    assert "█" not in text
    assert "  weights of the model" in text


def test_what_hides_behind_a_flag() -> None:
    report = Report(
        {}, (TABLE,), details=(TABLE._replace(title="more"),), assumptions=("small print",), more="1 more: --details"
    )
    short, whole = output.render(report, "table"), output.render(report, "table", whole=True)
    assert ("more" in short, "--details" in short, "small print" in short) == (True, True, False)
    assert ("--details" in whole, "small print" in whole) == (False, True)


def test_a_table_without_room_is_written_row_by_row() -> None:
    table = Table("wide", (Column("a"), *(Column(f"number{i}", "number") for i in range(9))), [("x", *range(9))])
    with mock.patch.dict("os.environ", {"COLUMNS": "60"}):
        assert "x: number0 0, number1 1" in output.render(Report({}, (table,)), "table")


def test_csv_of_a_quantity() -> None:
    report = Report(
        {}, (Table("t", (Column("what"), Column("", "quantity")), [("=1", Quantity(5, "days", "5 days"))]),), verdict="OK"
    )
    assert output.render(report, "csv").splitlines()[-1] == "t,0,'=1,note,5,days"
