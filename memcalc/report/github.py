"""Annotations of GitHub's workflows: a line for each limit that is exceeded, and for what is not counted, which GitHub shows
beside the line of the file.

Escapes are those of actions/toolkit, packages/core/src/command.ts: escapeData and escapeProperty.
"""

from memcalc.report.findings import Finding, findings
from memcalc.report.report import Report

DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
PROPERTY = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


def render(report: Report) -> str:
    """Commands on stdout; a notice where all limits hold."""
    found = [*findings(report)]
    lines = [_command(finding) for finding in found]
    if not any(finding.fails for finding in found):
        lines.insert(0, f"::notice title=memcalc::{report.verdict.translate(DATA)}")
    return "\n".join(lines)


def _command(finding: Finding) -> str:
    place = {"file": finding.file, "line": str(finding.line)} if finding.line else {}
    title = f"memcalc: {finding.scenario or finding.rule}"
    properties = ",".join(f"{key}={value.translate(PROPERTY)}" for key, value in {**place, "title": title}.items())
    return f"::{'error' if finding.fails else 'warning'} {properties}::{finding.message.translate(DATA)}"
