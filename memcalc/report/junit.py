"""JUnit's XML, which GitLab, Jenkins and others show as tests: a suite a file, a case a limit."""

from collections.abc import Iterator
from html import escape

from memcalc.errors import printable
from memcalc.estimates.checking import shown
from memcalc.report.findings import Finding, findings
from memcalc.report.report import Report


def render(report: Report) -> str:
    found = {(each.file, each.scenario, each.rule): each for each in findings(report) if each.rule != "file"}
    scenarios, errors = report.document["scenarios"], [each for each in findings(report) if each.rule == "file"]
    warned = [each for each in findings(report) if not each.fails]
    files = dict.fromkeys([*(printable(each["file"]) for each in scenarios), *(each.file for each in errors)])
    suites = []
    for file in files:
        cases = [
            _case(printable(scenario["name"]), check["limit"], found.get((file, printable(scenario["name"]), check["limit"])),
                  f"{shown(check['value'], check['unit'])} of {shown(check['allowed'], check['unit'])}")
            for scenario in scenarios if printable(scenario["file"]) == file
            for check in (*scenario["checks"], *_guess(scenario["guessed"]))
        ]  # fmt: skip
        wrong = [_case(each.scenario or file, "file", each, "", "error") for each in errors if each.file == file]
        failures = sum("<failure" in case for case in cases)
        attributes = (
            f'name="{_text(file or "memcalc")}" tests="{len(cases) + len(wrong)}" failures="{failures}" errors="{len(wrong)}"'
        )
        names = {printable(scenario["name"]) for scenario in scenarios if printable(scenario["file"]) == file}
        told = [f"{each.file}:{each.line}: {each.message}" for each in warned if each.scenario in names]
        beside = [f"    <system-err>{_text(chr(10).join(told))}</system-err>"] if told else []
        suites.append("\n".join([f"  <testsuite {attributes}>", *cases, *wrong, *beside, "  </testsuite>"]))
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', '<testsuites name="memcalc">', *suites, "</testsuites>"])


def _guess(reason: str | None) -> Iterator[dict[str, str]]:
    """A model that is guessed is a case that fails."""
    if reason:
        yield {"limit": "model", "value": "guessed", "allowed": "known", "unit": ""}


def _case(scenario: str, limit: str, finding: Finding | None, passed: str, kind: str = "failure") -> str:
    start = f'    <testcase classname="{_text(scenario)}" name="{_text(limit)}"'
    if finding is None:
        return f"{start}><system-out>{_text(passed)}</system-out></testcase>"
    place = f"{finding.file}:{finding.line}: " if finding.line else ""
    said = f'<{kind} message="{_text(finding.message)}">{_text(place + finding.message)}</{kind}>'
    return f"{start}>{said}</testcase>"


def _text(text: str) -> str:
    return escape(text, quote=True)
