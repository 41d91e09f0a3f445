"""What is wrong with sizing files, as tools of code review take it: a message at a line of a file."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from memcalc.errors import Unsupported, printable
from memcalc.estimates.checking import shown
from memcalc.frozen import NamedTuple
from memcalc.report.report import Report


class Finding(NamedTuple):
    """A limit that is exceeded (`rule` is its name), or what is wrong with a file (`rule` is "file"); or, which is no failure,
    what a launch file says that is not counted ("warning")."""

    rule: str
    file: str
    line: int  # 0: of no file
    scenario: str
    message: str

    @property
    def fails(self) -> bool:
        return self.rule != WARNING


WARNING = "warning"
PLACE = re.compile(r"(?P<file>[^\s:][^:]*):(?P<line>[0-9]+)(?:, [^:]+:[0-9]+)*: (?P<message>.*)", re.DOTALL)


def findings(report: Report) -> Iterator[Finding]:
    """Of a report of `check`, with all text printable. Raises Unsupported for any other."""
    document = report.document
    if document.get("command") != "check":
        raise Unsupported("this format shows limits of sizing files; use it with check")
    for problem in document["errors"]:
        yield _printable(Finding("file", problem["file"], problem["line"], problem["scenario"], problem["message"]))
    for scenario in document["scenarios"]:
        yield from map(_printable, _of(scenario))


def _of(scenario: Mapping[str, Any]) -> Iterator[Finding]:
    file, name, remedy = scenario["file"], scenario["name"], _remedy(scenario)
    if scenario["guessed"]:
        yield Finding("model", file, scenario["line"], name, f"not answered for a guess: {scenario['guessed']}")
    for check in scenario["checks"]:
        if not check["holds"]:
            value, allowed = (shown(check[key], check["unit"]) for key in ("value", "allowed"))
            yield Finding(check["limit"], file, check["line"], name, f"{check['limit']} is {value}, allowed {allowed}{remedy}")
    yield from _warnings(scenario)


def _warnings(scenario: Mapping[str, Any]) -> Iterator[Finding]:
    """At the line that each begins with."""
    for text in scenario["warnings"]:
        found = PLACE.fullmatch(text)
        file, line, message = found.group("file", "line", "message") if found else (scenario["file"], scenario["line"], text)
        yield Finding(WARNING, file, int(line), scenario["name"], message)


def _remedy(scenario: Mapping[str, Any]) -> str:
    if not scenario["remedy"]:
        return ""
    lines = ", ".join(map(str, dict.fromkeys(change["line"] for change in scenario["changes"] if change["line"])))
    return f"; it would pass with {scenario['remedy']}" + f" (line {lines})" * bool(lines)


def _printable(finding: Finding) -> Finding:
    rule, file, line, scenario, message = finding
    return Finding(rule, printable(file), line, printable(scenario), printable(message))
