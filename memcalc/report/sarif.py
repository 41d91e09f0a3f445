"""SARIF 2.1.0 (OASIS), which code scanning and editors read."""

import json
import os
from typing import Any

from memcalc.report.findings import Finding, findings
from memcalc.report.report import Report

SCHEMA_OF_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
RULES = {
    "file": "What is wrong with a sizing file.", "model": "A model that is only guessed passes no gate.",
    "warning": "What a launch file says that is not counted.",
}  # fmt: skip


def render(report: Report) -> str:
    from memcalc import __version__

    found = list(findings(report))
    rules = [
        {"id": rule, "shortDescription": {"text": RULES.get(rule, f"The limit on {rule} must hold.")}}
        for rule in dict.fromkeys(finding.rule for finding in found)
    ]
    driver = {"name": "memcalc", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": list(map(_result, found))}
    return json.dumps({"$schema": SCHEMA_OF_SARIF, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False)


def _result(finding: Finding) -> dict[str, Any]:
    text = f"{finding.scenario}: {finding.message}" if finding.scenario else finding.message
    which = "" if finding.fails else f":{finding.message}"  # of several of one rule
    out: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": "error" if finding.fails else "warning",
        "message": {"text": text},
        "partialFingerprints": {"scenarioLimit/v1": f"{finding.file}:{finding.scenario}:{finding.rule}{which}"},
    }
    if finding.line:
        place = {"artifactLocation": {"uri": _uri(finding.file)}, "region": {"startLine": finding.line}}
        out["locations"] = [{"physicalLocation": place}]
    return out


def _uri(file: str) -> str:
    """Relative to where the command ran, as code scanning takes it, unless the path is absolute."""
    from urllib.parse import quote

    path = quote(file.replace(os.sep, "/"))
    return f"file://{path}" if os.path.isabs(file) else path
