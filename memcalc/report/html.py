"""A report as one page: nothing is fetched and no script is needed to read it; details are folded, sources are footnotes.

Light and dark as the reader's system is, one column on a phone, and everything unfolded on paper.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from memcalc.report.report import Report, Table, cell
from memcalc.report.svg import picture
from memcalc.units import format_bytes

STYLE = """
:root{--ink:#1b1f24;--pale:#57606a;--line:#d0d7de;--page:#fff;--band:#f6f8fa;--accent:#2a6fb0;--good:#1a7f37;--near:#9a6700;\
--bad:#b42318}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--pale:#9198a1;--line:#3d444d;--page:#0d1117;--band:#151b23;\
--accent:#6cb0f0;--good:#3fb950;--near:#d29922;--bad:#f85149}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;overflow-wrap:anywhere;padding:1.5rem 1rem 3rem;background:var(--page);color:var(--ink);\
font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1.4rem;line-height:1.25;margin:0 0 .25rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
p{margin:.4rem 0}.pale{color:var(--pale)}.verdict{font-size:1.15rem;font-weight:600;margin:1rem 0}
.good{color:var(--good)}.near{color:var(--near)}.bad{color:var(--bad)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--pale);font-weight:600;font-size:.85rem}.n{text-align:right;white-space:nowrap}tr.sum td{font-weight:600}
td:not(.n):not(.bar){min-width:6.5rem}.bar{min-width:6rem}.bar div{height:.7rem;margin-top:.4rem;\
background:var(--accent);border-radius:2px}.bar .over{background:var(--bad)}
details{margin:1rem 0;border:1px solid var(--line);border-radius:6px;padding:.3rem .8rem;background:var(--band)}
summary{cursor:pointer;font-weight:600}ul,ol{padding-left:1.4rem}code,pre{font-family:ui-monospace,monospace;font-size:.85rem}
pre{overflow-x:auto}svg{max-width:100%;height:auto}a{color:var(--accent);text-decoration:none}sup{line-height:0}\
:target{background:var(--band)}
@media(max-width:40rem){.wide svg{max-width:none}.bar{display:none}td,th{padding:.3rem .4rem}td,th,code{overflow-wrap:normal}}
@media print{body{max-width:none;padding:0}details{border:0;padding:0;background:none}.wide{overflow:visible}\
h2,table{break-inside:avoid-page}details>summary{list-style:none}details:not([open])>*{display:block}\
details::details-content{content-visibility:visible;height:auto}}
"""
FOLDED = "All else"
LINES = "Every line: formula, values, source"


def render(report: Report) -> str:
    """A whole document."""
    title = escape(report.heading or "memcalc")
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f'<meta name="color-scheme" content="light dark"><title>{title}</title><style>{STYLE}</style></head><body><main>',
            *_body(report),
            "</main></body></html>",
        )
    )


def _body(report: Report) -> Iterator[str]:
    yield f"<h1>{escape(report.heading or 'memcalc')}</h1>"
    if report.settings:
        yield f'<p class="pale">{escape(report.settings)}</p>'
    if report.verdict:
        yield f'<p class="verdict {report.tone}">{escape(report.verdict)}</p>'
    yield from (f'<p class="near"><strong>warning:</strong> {escape(warning)}</p>' for warning in report.warnings)
    if report.trees:
        from memcalc.report.explanation import drawn_tree

        for tree in report.trees:
            yield f"<pre>{escape(chr(10).join(drawn_tree(tree, 100)))}</pre>"
    else:
        for table in report.tables:
            yield from _table(table.on_screen())
    for each in (*report.pictures, *(made() for made in report.pages)):
        yield f'<section><h2>{escape(each.title)}</h2><div class="wide">{picture(each)}</div></section>'
    yield from _list(report.notes)
    small = [table for table in report.tables if table.small]
    if report.details or report.assumptions or small:
        yield f"<details><summary>{FOLDED}: {len(report.assumptions)} assumptions, {len(report.details)} tables</summary>"
        for table in (*small, *report.details):
            yield from _table(table)
        yield from _list(report.assumptions)
        yield "</details>"
    sources = report.document.get("sources")
    numbers = {key: number for number, key in enumerate(sources, 1)} if isinstance(sources, dict) else {}
    yield from _lines(report.document.get("lines"), numbers)
    yield from _sources(sources or {})


def _table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"<h2>{escape(table.title)}</h2>"
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f'<th{_class(column.kind)} scope="col">{escape(column.title)}</th>' for column in table.columns)
    yield "</tr></thead><tbody>"
    for number, row in enumerate(table.rows):
        cells = "".join(
            _cell(value, column.kind, table.level(number) if place == 0 else 0, table.marks.get(number) if place == 0 else None)
            for place, (value, column) in enumerate(zip(row, table.columns, strict=True))
        )
        yield f"<tr{' class=sum' if number in table.emphasised else ''}>{cells}</tr>"
    yield "</tbody></table></div>"


def _class(kind: str) -> str:
    return "" if kind in ("text", "bar") else ' class="n"'


def _cell(value: Any, kind: str, level: int, mark: str | None) -> str:
    if kind == "bar":
        share = float(value or 0.0)
        over = ' class="over"' if share > 1 else ""
        bar = f'<div{over} style="width:{100 * min(share, 1.0):.2f}%"></div>' if share > 0 else ""
        return f'<td class="bar">{bar}</td>'
    indent = f' style="padding-left:{0.6 + 1.2 * level:.1f}rem"' if level else ""
    text = escape(cell(value, kind)) + (f" <em>← {escape(mark)}</em>" if mark else "")
    return f"<td{_class(kind)}{indent}>{text}</td>"


def _list(sentences: Sequence[str]) -> Iterator[str]:
    if sentences:
        yield '<ul class="pale">' + "".join(f"<li>{escape(each)}</li>" for each in sentences) + "</ul>"


def _lines(lines: Any, numbers: Mapping[str, int]) -> Iterator[str]:
    """What adds up to the total, line by line, each with the footnote of its source; folded."""
    if not isinstance(lines, list) or not lines:
        return
    yield f"<details><summary>{LINES}</summary>"
    yield '<div class="wide"><table><thead><tr><th scope="col">line</th><th class="n" scope="col">memory</th>'
    yield '<th scope="col">formula</th><th scope="col">values</th></tr></thead><tbody>'
    for line in lines:
        key = str(line.get("source", "")).partition(":")[0]
        note = f'<sup><a href="#{escape(key, quote=True)}">{numbers[key]}</a></sup>' if key in numbers else ""
        cells = (f"<code>{escape(str(line.get(name, '')))}</code>" for name in ("formula", "evaluated"))
        size = escape(format_bytes(int(line.get("bytes", 0))))
        yield f"<tr><td>{escape(str(line.get('path', '')))}{note}</td><td class=n>{size}</td>" + "".join(
            f"<td>{each}</td>" for each in cells
        ) + "</tr>"  # fmt: skip
    yield "</tbody></table></div></details>"


def _sources(sources: Any) -> Iterator[str]:
    """Footnotes, in the order in which the document has them."""
    if not isinstance(sources, dict) or not sources:
        return
    yield "<footer><h2>Sources</h2><ol>"
    for key, source in sources.items():
        said = source if isinstance(source, dict) else {"title": str(source)}
        words = ", ".join(str(said[name]) for name in ("authors", "title", "year", "where") if said.get(name))
        yield f'<li id="{escape(str(key), quote=True)}">{escape(words)}</li>'
    yield "</ol></footer>"
