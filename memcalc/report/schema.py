"""JSON Schemas, from the same types that validate."""

from typing import Any

from memcalc.report.report import Column, Report, Table
from memcalc.specs.spec import schema_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def report(what: str) -> Report:
    """The schema of the sizing file or of the JSON output."""
    document = {"$schema": DIALECT, **(sizing_schema() if what == "sizing" else output_schema())}
    keys = [
        (name, entry.get("type") or entry.get("$ref", "").rsplit("/", 1)[-1]) for name, entry in document["properties"].items()
    ]
    return Report(document, (Table("", (Column("key"), Column("type")), keys),))


def sizing_schema() -> dict[str, Any]:
    """A scenario's keys at the top, the same again under scenario.NAME, where none is required."""
    from memcalc.specs.sizing import Scenario

    schema = schema_of(Scenario)
    several = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    keys = {
        **schema["properties"],
        "models": {**several, "description": "In place of model: a scenario of each."},
        "gpus": {**several, "description": "In place of gpu: a scenario of each, with each of the models."},
    }
    named = {"type": "object", "additionalProperties": {"type": "object", "properties": keys}}
    properties = {**keys, "scenario": named}
    return {**schema, "title": "memcalc sizing file", "properties": properties, "required": []}


def output_schema() -> dict[str, Any]:
    from memcalc.report.contract import Document

    return {**schema_of(Document), "title": "memcalc JSON output"}
