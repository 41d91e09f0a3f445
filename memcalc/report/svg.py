"""Reports as SVG: text in columns of its own, bars and plots as vectors, nothing fetched from anywhere."""

import re
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from rich.cells import cell_len

from memcalc.frozen import NamedTuple
from memcalc.report.explanation import drawn_tree
from memcalc.report.heatmap import HeatMap
from memcalc.report.layout import GAP, INDENT, Laid, LaidColumn, grid, wrapped
from memcalc.report.plot import Plot
from memcalc.report.report import EIGHTHS, Report, Table
from memcalc.report.stacked import Stacked

COLUMNS = 100
CHARACTER, LINE, MARGIN, SIZE = 7.2, 18.0, 16.0, 12  # pixels of a character's width, a line, the border, and the type
PLOT_WIDTH, PLOT_HEIGHT, AXIS = 560.0, 220.0, 64.0
FONT = "'DejaVu Sans Mono', Menlo, Consolas, monospace"
INK, PALE, ACCENT = "#1b1f24", "#6a737d", "#2a6fb0"
TONES = {"good": "#1a7f37", "near": "#9a6700", "bad": "#b42318", "": INK}
OPACITIES = (1.0, 0.7, 0.45, 0.25, 0.12)  # of the parts of a bar
THEMED = {INK: "ink", PALE: "pale", ACCENT: "accent", TONES["good"]: "good", TONES["bad"]: "bad", "#ffffff": "page"}
BARS = re.compile(r"^█*[▏▎▍▌▋▊▉]?(│█*▶?)?$")
# What XML 1.0 cannot hold, and what would turn text around: replaced by a mark.
FORBIDDEN = re.compile("[^\\t\\n\\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]")


class _Page(NamedTuple):
    """Elements so far; `lines[0]` is how far down the page they reach."""

    elements: list[str]
    reached: list[float]

    def down(self, pixels: float) -> None:
        self.reached[0] += pixels

    @property
    def y(self) -> float:
        return self.reached[0]

    def text(self, column: float, said: str, *, colour: str = INK, bold: bool = False, ends: bool = False) -> None:
        """Words that start at a column, or end at it, as wide as a terminal would draw them."""
        if said:
            anchor = "end" if ends else "start"
            self.elements.append(_text(MARGIN + column * CHARACTER, self.y, said, colour=colour, bold=bold, anchor=anchor))

    def cell(self, start: int, column: LaidColumn, said: str, *, colour: str = INK, bold: bool = False) -> None:
        """Words in a column of a table."""
        indent = column.width if column.right else len(said) - len(said.lstrip())
        self.text(start + indent, said.strip(), colour=colour, bold=bold, ends=column.right)


def render(report: Report) -> str:
    page = _Page([], [MARGIN + SIZE])
    for line in wrapped(report.heading or "memcalc", COLUMNS):
        page.text(0, line, bold=True)
        page.down(LINE)
    _paragraphs(page, report.settings, colour=PALE)
    if report.verdict:
        page.down(LINE / 3)
        _paragraphs(page, report.verdict, colour=TONES[report.tone], bold=True)
    if report.timing:
        _paragraphs(page, report.timing)
    for warning in report.warnings:
        _paragraphs(page, f"warning: {warning}")
    for tree in report.trees:
        page.down(LINE / 2)
        for line in drawn_tree(tree, COLUMNS):
            page.text(len(line) - len(line.lstrip()), line.strip())
            page.down(LINE)
    for table in () if report.trees else (each.on_screen() for each in report.tables):
        page.down(LINE / 2)
        _table(page, table)
    for picture in report.pictures:
        page.down(LINE / 2)
        _picture(page, picture)
    page.down(LINE / 2)
    for note in filter(None, (*report.notes, report.more)):
        _paragraphs(page, note, colour=PALE)
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, page.y - SIZE + MARGIN
    title = escape(_clean(report.heading or "memcalc"))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
            f'role="img" font-family={quoteattr(FONT)} font-size="{SIZE}">',
            f"<title>{title}</title>",
            f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
            *page.elements,
            "</svg>",
        )
    )


def picture(drawn: Plot | HeatMap | Stacked) -> str:
    """One picture for a page, in the page's own colours; its title stands beside it."""
    page = _Page([], [MARGIN + SIZE])
    _picture(page, drawn._replace(title=""))
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, page.y - SIZE + MARGIN
    elements = "".join(page.elements)
    for colour, name in THEMED.items():
        elements = elements.replace(f'"{colour}"', f'"var(--{name})"')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'font-family={quoteattr(FONT)} font-size="{SIZE}"><title>{escape(_clean(drawn.title))}</title>{elements}</svg>'
    )


def _picture(page: _Page, drawn: Plot | HeatMap | Stacked) -> None:
    if isinstance(drawn, Plot):
        _plot(page, drawn)
    elif isinstance(drawn, HeatMap):
        _heat_map(page, drawn)
    else:
        _stacked(page, drawn)


def _stacked(page: _Page, found: Stacked) -> None:
    """Bars of parts, one below the other, and where they end."""
    for line in wrapped(found.title, COLUMNS):
        page.text(0, line, bold=True)
        page.down(LINE)
    first = max(map(cell_len, found.rows)) + GAP
    last = max(map(cell_len, found.texts)) + GAP
    left, width = MARGIN + first * CHARACTER, (COLUMNS - first - last) * CHARACTER
    top = page.y - SIZE
    for name, values, text in zip(found.rows, found.values, found.texts, strict=True):
        page.text(0, name)
        x = left
        for number, value in enumerate(values):
            wide = value / found.most * width
            page.elements.append(
                f'<rect x="{x:.1f}" y="{page.y - 11:g}" width="{wide:.1f}" height="14" '
                f'fill="{ACCENT}" fill-opacity="{OPACITIES[number % len(OPACITIES)]}"/>'
            )
            x += wide
        page.text(COLUMNS, text, ends=True)
        page.down(LINE)
    if found.limit:
        edge = left + found.limit / found.most * width
        page.elements.append(f'<path d="M{edge:.1f} {top:g}V{page.y - SIZE:g}" stroke="{TONES["bad"]}" stroke-width="1.5"/>')
    page.down(LINE / 3)
    column = 0
    for number, part in enumerate(found.parts):
        page.elements.append(
            f'<rect x="{MARGIN + column * CHARACTER:.1f}" y="{page.y - 10:g}" width="11" height="11" fill="{ACCENT}" '
            f'fill-opacity="{OPACITIES[number % len(OPACITIES)]}"/>'
        )
        page.text(column + 2, part, colour=PALE)
        column += cell_len(part) + 5
    page.down(LINE)
    _paragraphs(page, found.legend, colour=PALE)


def _paragraphs(page: _Page, said: str, *, colour: str = INK, bold: bool = False) -> None:
    for line in wrapped(said, COLUMNS):
        page.text(0, line, colour=colour, bold=bold)
        page.down(LINE)


def _table(page: _Page, table: Table) -> None:
    for line in wrapped(table.title, COLUMNS):
        page.text(0, line, bold=True)
        page.down(LINE)
    found = grid(table, COLUMNS)
    if found is None:
        from memcalc.report.layout import stacked

        for line in stacked(table, COLUMNS):
            page.text(len(line) - len(line.lstrip()), line.strip())
            page.down(LINE)
        return
    starts = [INDENT]
    for column in found.columns[:-1]:
        starts.append(starts[-1] + column.width + GAP)
    _head(page, found, starts)
    for number, cells in enumerate(found.rows):
        split = [text.split("\n") for text in cells]
        for which in range(max(map(len, split))):
            for start, column, texts in zip(starts, found.columns, split, strict=True):
                text = texts[which] if which < len(texts) else ""
                if text and BARS.match(text):
                    page.elements.extend(_bar(MARGIN + start * CHARACTER, page.y, text))
                    continue
                page.cell(start, column, text, bold=number in found.emphasised)
            page.down(LINE)


def _head(page: _Page, found: Laid, starts: Sequence[int]) -> None:
    """The headings, as many lines as they need, over a rule."""
    if not any(column.title for column in found.columns):
        return
    heads = [wrapped(column.title, column.width) if column.title else [] for column in found.columns]
    tall = max(map(len, heads))
    for number in range(tall):
        for start, column, lines in zip(starts, found.columns, heads, strict=True):
            if (which := number - tall + len(lines)) >= 0:
                page.cell(start, column, lines[which], colour=PALE)
        page.down(LINE)
    y = page.y - LINE + 5
    end = MARGIN + (starts[-1] + found.columns[-1].width) * CHARACTER
    page.elements.append(f'<path d="M{MARGIN + INDENT * CHARACTER:g} {y:g}H{end:g}" stroke="{PALE}" stroke-width="0.6"/>')
    page.down(3)


def _bar(x: float, y: float, text: str) -> Iterator[str]:
    """A bar of blocks as a rectangle; what lies beyond the whole in red, behind the edge."""
    inside, edge, beyond = text.partition("│")
    width = CHARACTER * (inside.count("█") + sum(EIGHTHS.index(c) / 8 for c in inside if c in EIGHTHS[1:]))
    yield f'<rect x="{x:g}" y="{y - 9:g}" width="{width:g}" height="10" fill="{ACCENT}"/>'
    if edge:
        more = CHARACTER * len(beyond)
        yield f'<rect x="{x + width + 2:g}" y="{y - 9:g}" width="{more:g}" height="10" fill="{TONES["bad"]}"/>'
        yield f'<path d="M{x + width + 1:g} {y - 11:g}v14" stroke="{INK}" stroke-width="1.4"/>'


def _plot(page: _Page, plot: Plot) -> None:
    """The curve as a line, its points as dots with their letters."""
    for line in wrapped(plot.title, COLUMNS):
        page.text(0, line, bold=True)
        page.down(LINE)
    left, top = MARGIN + AXIS, page.y - SIZE + 4
    bottom = top + PLOT_HEIGHT

    def place(x: float, y: float) -> tuple[float, float]:
        return left + PLOT_WIDTH * plot.across(x), top + PLOT_HEIGHT * plot.down(y)

    out = page.elements
    out.append(f'<path d="M{left:g} {top:g}V{bottom:g}H{left + PLOT_WIDTH:g}" fill="none" stroke="{PALE}"/>')
    for share, label in zip((0.0, 0.5, 1.0), plot.labels, strict=True):
        y = top + share * PLOT_HEIGHT
        out.append(f'<path d="M{left - 4:g} {y:g}h4" stroke="{PALE}"/>')
        out.append(_text(left - 8, y + 4, label, colour=PALE, anchor="end"))
    for x_value, label in plot.ticks.items():
        x = left + PLOT_WIDTH * plot.across(x_value)
        out.append(f'<path d="M{x:.5g} {bottom:g}v4" stroke="{PALE}"/>')
        out.append(_text(x, bottom + 18, label, colour=PALE, anchor="middle"))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in plot.line))
    out.append(f'<polyline points="{points}" fill="none" stroke="{ACCENT}" stroke-width="2"/>')
    taken: list[tuple[float, float]] = []
    for mark in plot.marks:
        x, y = place(mark.x, mark.y)
        aside = SIZE * sum(abs(x - other) + abs(y - beside) < 2 * SIZE for other, beside in taken)
        taken.append((x, y))
        colour = TONES["good"] if mark.letter == "O" else TONES["bad"]
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        out.append(_text(x + aside, y - 8, mark.letter, colour=colour, bold=True, anchor="middle"))
    page.down(PLOT_HEIGHT + 2 * LINE)
    _paragraphs(page, plot.legend, colour=PALE)


def _heat_map(page: _Page, found: HeatMap) -> None:
    """Fields from pale to strong, each with its figure."""
    for line in wrapped(found.title, COLUMNS):
        page.text(0, line, bold=True)
        page.down(LINE)
    first = max(map(cell_len, found.rows), default=0) + GAP
    cells = [*found.columns, *(text for line in found.texts for text in line)]
    width = min(max(map(cell_len, cells)) + GAP, (COLUMNS - first) // len(found.columns))
    for j, head in enumerate(found.columns):
        page.text(first + (j + 1) * width - 1, head[:width], colour=PALE, ends=True)
    page.down(LINE)
    for i, name in enumerate(found.rows):
        page.text(0, name, colour=PALE)
        for j, text in enumerate(found.texts[i]):
            heat, x = found.heat(i, j), MARGIN + (first + j * width) * CHARACTER
            if heat is not None:
                page.elements.append(
                    f'<rect x="{x:g}" y="{page.y - 13:g}" width="{width * CHARACTER - 2:g}" height="{LINE:g}" '
                    f'fill="{ACCENT}" fill-opacity="{0.08 + 0.62 * heat:.2f}"/>'
                )
            page.text(first + (j + 1) * width - 1, text, ends=True)
        page.down(LINE)
    _paragraphs(page, found.legend, colour=PALE)


def _text(x: float, y: float, said: str, *, colour: str, bold: bool = False, anchor: str = "start") -> str:
    """One run of words. Its length is given, so that columns meet whatever the font."""
    said = _clean(said)
    length = f' textLength="{cell_len(said) * CHARACTER:.4g}" lengthAdjust="spacingAndGlyphs"' if len(said) > 1 else ""
    weight = ' font-weight="bold"' if bold else ""
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.5g}" y="{y:.5g}" fill="{colour}"{weight}{place}{length} xml:space="preserve">{escape(said)}</text>'


def _clean(text: str) -> str:
    """Only what XML can hold.

    >>> _clean("a\\x00b<c")
    'a\\ufffdb<c'
    """
    return FORBIDDEN.sub("\ufffd", text)
