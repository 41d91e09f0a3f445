"""What `memcalc import` prints: a sizing file whose comments name file and line, and the account of every key."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memcalc.errors import one_line, printable
from memcalc.report.report import SCHEMA, Column, Report, Table

if TYPE_CHECKING:
    from memcalc.readers.launch.job import Job
    from memcalc.readers.launch.question import LaunchQuestion

LONGEST = 160  # characters of a comment
OF_COMMAND = {"train": ("training", "training.parallelism"), "infer": ("serving",)}  # tables of the sizing file
CONFIG = "config.json"  # a model in numbers, which the sizing file needs beside it


def rows(job: "Job", question: "LaunchQuestion") -> list[dict[str, Any]]:
    """Every key: file, line, key, value, and what it becomes, why it is ignored, or that it is not known."""
    from memcalc.readers.launch.question import became

    of = became(job.reading.facts, question)
    out = []
    for row in job.reading.imported:
        known: dict[str, Any] = {"file": row.entry.file, "line": row.entry.line, "key": row.entry.key, "value": row.entry.value}
        if row.facts:
            settings = [_option(field, question) for name in row.facts for field in of.get(name, ())]
            facts = [f"{name} = {_shown(job.reading.facts[name].value)}" for name in row.facts if name in job.reading.facts]
            known["becomes"] = "; ".join(dict.fromkeys(settings)) or "; ".join(facts) or "as another key says"
        elif row.unknown:
            known["unknown"] = row.unknown
        else:
            known["ignored"] = row.ignored
        out.append(known)
    return out


def _option(field: str, question: "LaunchQuestion") -> str:
    if field == "MODEL":
        return "MODEL" if not isinstance(question.model, str) else f"MODEL {question.model}"
    value = question.settings[field].value
    return f"--{field.replace('_', '-')}" + ("" if value is True else f" {_shown(value)}")


def _shown(value: Any) -> str:
    return (
        ",".join(map(str, value))
        if isinstance(value, (list, tuple))
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def report(
    found: Sequence[tuple["Job", "LaunchQuestion"]], warnings: Sequence[Sequence[str]], gpu: str | None,
    tables: Mapping[str, Sequence[str]]
) -> Report:  # fmt: skip
    """`tables`: the fields of Training, Parallelism and Serving, in their order."""
    jobs = []
    imported: list[dict[str, Any]] = []
    for (job, question), said in zip(found, warnings, strict=True):
        account = rows(job, question)
        imported += account
        jobs.append({
            "name": job.name, "file": job.file, "kind": job.label, "command": question.command,
            "model": question.model, "gpu": gpu or question.gpu,
            "facts": {name: fact.value for name, fact in job.reading.facts.items()},
            "from": {name: fact.place for name, fact in job.reading.facts.items()},
            "settings": {name: list(s.value) if isinstance(s.value, tuple) else s.value for name,
                s in question.settings.items()},
            "asks": list(question.asks), "hints": list(job.hints), "warnings": list(said),
        })  # fmt: skip
    text = sizing_text(found, warnings, gpu, tables)
    flat = [line for said in warnings for line in said]
    document = {"schema": SCHEMA, "command": "import", "jobs": jobs, "imported": imported, "sizing": text, "warnings": flat}
    columns = (Column("file"), Column("line", "number"), Column("key"), Column("value"), Column("becomes"), Column("ignored"),
               Column("unknown"))  # fmt: skip
    table = [(row["file"], row["line"], row["key"], _shown(row["value"] if row["value"] is not None else "null"),
        row.get("becomes", ""),
              row.get("ignored", ""), row.get("unknown", "")) for row in imported]  # fmt: skip
    return Report(document, (Table("", columns, table),), warnings=tuple(flat))


def sizing_text(
    found: Sequence[tuple["Job", "LaunchQuestion"]], warnings: Sequence[Sequence[str]], gpu: str | None,
    tables: Mapping[str, Sequence[str]]
) -> str:  # fmt: skip
    """A sizing file (`memcalc check` reads it): one scenario at the top, several as [scenario.NAME]."""
    several = len(found) > 1
    out: list[str] = []
    for (job, question), said in zip(found, warnings, strict=True):
        prefix = f"scenario.{_key(job.name)}" if several else ""
        out += _scenario(job, question, said, gpu or question.gpu, tables, prefix)
    return "\n".join(out)


def _scenario(
    job: "Job", question: "LaunchQuestion", warnings: Sequence[str], gpu: str | None, tables: Mapping[str, Sequence[str]],
    prefix: str,
) -> list[str]:  # fmt: skip
    out = [_comment(f"{job.label} of {job.file}")]
    out += [_comment(f"warning: {line}") for line in warnings]
    out += [_comment(f"taken: {line}") for line in question.assumed]
    out += [_comment(f"hint: {line}") for line in job.hints]
    out += [_comment(f"no file says the {name.replace('_', ' ')}") for name in question.asks]
    if prefix:
        out.append(f"[{prefix}]")
    below = f"{prefix}." if prefix else ""
    place = _places(job, question.model_facts)
    if isinstance(question.model, str):
        out.append(_line("model", question.model, place))
    elif question.model:
        out += [f"# save as {CONFIG}: {json.dumps(question.model)}", _line("model", CONFIG, place)]
    else:
        out.append('# model = "…"')
    out.append(_line("gpu", gpu, _places(job, ("gpu",))) if gpu else '# gpu = "…"  # one of memcalc gpus; --gpu writes it')
    draft = question.settings.get("draft")
    if draft:
        out.append(_line("draft", draft.value, _places(job, draft.facts)))
    for table in OF_COMMAND[question.command]:
        inside = [name for name in tables[table] if name in question.settings]
        if inside or "." not in table:
            out += ["", f"[{below}{table}]"]
            out += [_line(name, question.settings[name].value, _places(job, question.settings[name].facts)) for name in inside]
    out += ["", f"[{below}limits]", 'verdict = "tight"', ""]
    return out


def _places(job: "Job", facts: Sequence[str]) -> str:
    """Where the facts of a setting stand: file, line and key of those that are written, else why."""
    known = [job.reading.facts[name] for name in facts if name in job.reading.facts]
    written = [f"{fact.entry.place} {fact.entry.key}".strip() for fact in known if fact.entry]
    return ", ".join(dict.fromkeys(written or [fact.why for fact in known if fact.why]))


def _line(key: str, value: Any, place: str) -> str:
    return f"{key} = {_toml(value)}" + (f"  {_comment(place)}" if place else "")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value) if isinstance(value, (int, float)) else json.dumps(printable(str(value)), ensure_ascii=False)


def _comment(text: str) -> str:
    return f"# {one_line(' '.join(printable(text).split()), LONGEST)}"


def _key(name: str) -> str:
    return (
        name
        if name.replace("-", "").replace("_", "").isalnum() and name.isascii()
        else json.dumps(printable(name), ensure_ascii=False)
    )
