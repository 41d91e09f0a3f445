"""Tables as GitHub-flavoured Markdown."""

from memcalc.report.report import Report, Table, cell

WIDTH = 75  # characters of a picture
ESCAPES = str.maketrans({"\\": "\\\\", "|": "\\|", "[": "\\[", "]": "\\]", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " "})


def render(report: Report) -> str:
    parts = [f"<!-- {report.marker} -->"] if report.marker else []
    parts += [f"### {_escape(report.heading)}"] if report.heading else []
    if report.settings:
        parts.append(_escape(report.settings))
    if report.verdict:
        parts.append(f"**{_escape(report.verdict)}**")
    if report.timing:
        parts.append(_escape(report.timing))
    parts += [f"**warning:** {_escape(warning)}" for warning in report.warnings]
    parts += [_table(table.on_screen()) for table in report.tables]
    parts += [f"```text\n{plot.title}\n{plot.drawn(WIDTH)}\n{plot.legend}\n```" for plot in report.pictures]
    if notes := [*report.notes, *filter(None, (report.more,))]:
        parts.append("\n".join(f"- {_escape(note)}" for note in notes))
    return "\n\n".join(parts)


def _table(table: Table) -> str:
    shown = [i for i, column in enumerate(table.columns) if column.kind != "bar"]
    lines = [f"**{_escape(table.title)}**\n"] if table.title else []
    lines.append("| " + " | ".join(_escape(table.columns[i].title) for i in shown) + " |")
    lines.append("|" + "|".join("---" if table.columns[i].kind == "text" else "--:" for i in shown) + "|")
    for number, row in enumerate(table.rows):
        cells = [_escape(cell(row[i], table.columns[i].kind)) for i in shown]
        if number in table.marks:
            cells[0] += f" ← {table.marks[number]}"
        cells[0] = "&emsp;" * table.level(number) + cells[0]
        if number in table.emphasised:
            cells = [f"**{text}**" if text else text for text in cells]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _escape(text: str) -> str:
    """Text as such: no table cell ends in it, and it is no HTML, link or picture.

    >>> _escape("a|b <script> [x](y)")
    'a\\\\|b &lt;script&gt; \\\\[x\\\\](y)'
    """
    return text.translate(ESCAPES)
