"""The reference part of the documentation, written from the code: nothing here is typed twice.

mkdocs runs this file as a hook (`hooks:` in mkdocs.yml); `python docs/generate.py FOLDER` writes the same pages to a folder.
A page is Markdown; what it says comes from the commands themselves, the JSON Schemas of the specs, the formulas' docstrings
and the tables of the code.
"""

import contextlib
import importlib.util
import inspect
import io
import pkgutil
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import click

ROOT = Path(__file__).parent.parent


def pages() -> dict[str, str]:
    """Every generated page by its path below docs/."""
    return {f"reference/{name}.md": f"# {title}\n\n{body()}\n" for name, (title, body) in PAGES.items()}


# --- Markdown ---------------------------------------------------------------------------------------------------------


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cell(value: object) -> str:
    """A value on one line, without a bar that would end the cell."""
    text = "yes" if value is True else "no" if value is False else "" if value is None else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def code(value: object) -> str:
    return f"`{value}`" if str(value) else ""


def output(*words: str) -> str:
    """What a command of memcalc prints."""
    from memcalc.cli import cli

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        cli.main(args=list(words), prog_name="memcalc", standalone_mode=False)
    return printed.getvalue()


def listed(intro: str, *words: str) -> str:
    """A table that a command prints, below a sentence and the command itself."""
    return f"{intro}\n\n```sh\nmemcalc {' '.join(words)}\n```\n\n{output(*words, '--format', 'markdown')}"


# --- commands ---------------------------------------------------------------------------------------------------------


def commands_page() -> str:
    from memcalc.cli import COMMANDS, cli

    root = click.Context(cli, info_name="memcalc", **cli.context_settings)
    parts = [table(("command", "what it answers"), ((f"[{name}](#{name})", entry.summary) for name, entry in COMMANDS.items()))]
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        parts.append(command_section(command, click.Context(command, info_name=name, parent=root)))
    return "\n\n".join(parts)


def command_section(command: click.Command, context: click.Context) -> str:
    usage = " ".join(command.collect_usage_pieces(context))
    records = [(param, param.get_help_record(context)) for param in command.get_params(context)]
    rows = [(code(record[0]), record[1]) for _, record in records if record]
    text = "\n\n".join(paragraph(block) for block in inspect.cleandoc(command.help or "").split("\n\n"))
    return f"## {context.info_name}\n\n`{context.command_path} {usage}`\n\n{text}\n\n{table(('option', 'meaning'), rows)}"


def paragraph(block: str) -> str:
    """A paragraph of a command's help; one that starts with \\b keeps its lines, which are commands or a list."""
    if not block.startswith("\b"):
        return block
    lines = block.lstrip("\b\n")
    return f"```{'sh' if lines.startswith('memcalc ') else 'text'}\n{lines}\n```"


# --- specs and the JSON -----------------------------------------------------------------------------------------------


def specs_page() -> str:
    from pydantic import TypeAdapter

    import memcalc
    from memcalc.report.schema import sizing_schema

    schema, budget = sizing_schema(), TypeAdapter(memcalc.Budget).json_schema()
    parts = [
        "What can be said about a run. A field is a key of the sizing file (`memcalc check`) and an argument in Python; most"
        " are also an option on the command line, with `-` for `_`. A key that does not exist is refused.",
        schema_section({"title": "Sizing file", **{k: v for k, v in schema.items() if k != "title"}}),
        *(schema_section({"title": name, **entry}) for name, entry in schema.get("$defs", {}).items()),
        schema_section({"title": "Budget", **budget}),
    ]
    return "\n\n".join(parts)


def json_page() -> str:
    from memcalc.report.schema import output_schema

    schema = output_schema()
    parts = [
        "Every command prints this with `--format json`. `memcalc/1` is its version: within it no key changes its meaning, and"
        " new keys may come. `--get PATH` prints one of them, as in `--get per_gpu.peak`. Bytes are whole numbers.",
        schema_section({**schema, "title": "Document"}),
        *(schema_section({"title": name, **entry}) for name, entry in schema.get("$defs", {}).items()),
        "## By example\n",
        "The keys of one command, with their values:\n",
        "```sh\nmemcalc infer llama-3.1-8b --engine vllm --gpu h100 --format json\n```",
    ]
    return "\n\n".join(parts)


def schema_section(schema: Mapping[str, Any]) -> str:
    """One object of a JSON Schema as a table of its keys; a plain list of choices as a sentence."""
    text = f"## {schema['title']}\n\n{one_line(schema.get('description', ''))}\n\n"
    if "properties" not in schema:
        return f"{text}{accepted(schema)}\n"
    rows = [
        (code(name), accepted(field), default(name, field, schema), one_line(field.get("description", "")))
        for name, field in schema["properties"].items()
    ]
    columns = ("key", "accepts", "default", "meaning")
    used = [i for i in range(4) if i < 2 or any(row[i] for row in rows)]
    return text + table((columns[i] for i in used), ([row[i] for i in used] for row in rows))


BOUNDS = {"exclusiveMinimum": "above", "minimum": "from", "maximum": "to", "exclusiveMaximum": "below"}


def accepted(field: Mapping[str, Any]) -> str:
    """What a field takes, in words."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in field:
            return " or ".join(dict.fromkeys(accepted(option) for option in field[key] if option.get("type") != "null"))
    if "enum" in field or "const" in field:
        return ", ".join(code(value) for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {accepted(field['items'])}" if "items" in field else "list"
    words = {"integer": "whole number", "boolean": "true or false", "string": "text", "object": "table"}
    kind = words.get(field.get("type", ""), field.get("type", "any value"))
    bounds = [f"{word} {field[key]:,}" for key, word in BOUNDS.items() if field.get(key) is not None]
    return " ".join((kind, *bounds))


def default(name: str, field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    value = "required" if name in schema.get("required", ()) else field.get("default")
    if value is None or value in ([], {}, "required"):
        return value or ""
    return code(str(value).lower() if isinstance(value, bool) else ", ".join(value) if isinstance(value, list) else value)


def one_line(text: str) -> str:
    return " ".join(text.split())


# --- formulas ---------------------------------------------------------------------------------------------------------


def formulas_page() -> str:
    import memcalc.formulas
    from memcalc.formulas.formula import CARDS

    names = [f"memcalc.formulas.{found.name}" for found in pkgutil.iter_modules(memcalc.formulas.__path__)]
    modules = {name: import_module(name) for name in names}
    by_module: dict[str, list[Callable[..., Any]]] = {name: [] for name in names}
    for function in CARDS:
        if function.__module__ in by_module:
            by_module[function.__module__].append(function)
    parts = [
        "Every formula of memcalc. The expression is read from the code that computes it. Units stand in brackets. A formula is"
        " *exact*, an *estimate* (with a stated error) or *assumed* (a stated constant)."
    ]
    for name, functions in by_module.items():
        if functions:
            title = name.rpartition(".")[2].replace("_", " ")
            parts.append(f"## {title}\n\n{one_line((modules[name].__doc__ or '').split(chr(10) * 2)[0])}\n")
            parts.extend(formula_section(function) for function in functions)
    return "\n\n".join(parts)


def formula_section(function: Callable[..., Any]) -> str:
    from memcalc.formulas.formula import CARDS, expression
    from memcalc.sources import SOURCES

    card = CARDS[function]
    source = SOURCES[card.source]
    text, _, example = (inspect.getdoc(function) or "").partition(">>>")
    where = f"[{source.title}](sources.md#{card.source}){', ' + card.place if card.place else ''}"
    shown = f"```pycon\n>>> {example.strip()}\n```\n" if example else ""
    return (
        f"### {function.__name__}\n\n```text\n{function.__name__} = {expression(function)}\n```\n\n{escaped(text)}\n\n"
        f"{card.certainty.capitalize()}. Source: {where}.\n\n{shown}"
    )


def escaped(text: str) -> str:
    """Prose of a docstring as Markdown: a star is a product, an underscore part of a name, a bracket no link."""
    return re.sub(r"([*_\[\]<>|])", r"\\\1", text.strip())


def sources_page() -> str:
    from memcalc.sources import SOURCES

    entries = (
        f"### {source.title} {{ #{key} }}\n\n{escaped(source.authors)}, {source.year}. {escaped(source.where)}. Key: `{key}`.\n"
        for key, source in sorted(SOURCES.items(), key=lambda item: item[1].title.lower())
    )
    return "Every paper, library and data sheet that a number or a formula cites.\n\n" + "\n".join(entries)


# --- tables of the code -----------------------------------------------------------------------------------------------


def rows_of(kind: type, rows: Mapping[str, Any]) -> str:
    """A table of records on its side: one line a field, one column a record, the field's comment as its meaning."""
    names = getattr(kind, "_fields", None) or tuple(field.name for field in fields(kind))
    comments = field_comments(kind)
    told = [name for name in names if name not in ("name", "note")]
    body = ((code(name), *(getattr(row, name) for row in rows.values()), comments.get(name, "")) for name in told)
    return table(("field", *(code(name) for name in rows), "meaning"), body)


def field_comments(kind: type) -> dict[str, str]:
    """The comment behind each field of a record, where there is one."""
    return dict(re.findall(r"^\s+(\w+): .*?#\s*(.*)$", inspect.getsource(kind), re.MULTILINE))


def engines_page() -> str:
    from memcalc.formulas.engines import ENGINES
    from memcalc.formulas.serving_engines import SERVING_ENGINES

    def notes(rows: Mapping[str, Any]) -> str:
        return table(("engine", "what it is"), ((code(name), row.note) for name, row in rows.items()))

    training, serving = (type(next(iter(rows.values()))) for rows in (ENGINES, SERVING_ENGINES))
    return (
        f"An engine is one row of a table. The choice of an engine changes numbers through that row.\n\n"
        f"## Training engines\n\n`memcalc train --engine NAME`\n\n{notes(ENGINES)}\n{rows_of(training, ENGINES)}\n"
        f"## Serving engines\n\n`memcalc infer --engine NAME`\n\n{notes(SERVING_ENGINES)}\n{rows_of(serving, SERVING_ENGINES)}"
    )


def laws_page() -> str:
    from memcalc.formulas.scaling_laws import LAWS
    from memcalc.sources import SOURCES

    parts = ["Losses are nats per token of each law's own data: compare two models under one law, never two laws."]
    for law in LAWS.values():
        ranges = ((quantity, f"{low:.4g}", f"{high:.4g}") for quantity, (low, high) in law.tested.items())
        fitted = table(("fitted on", "from", "to"), ranges)
        constants = table(("constant", "value"), ((code(name), value) for name, value in constants_of(law.form)))
        note = f"{escaped(law.note)}\n\n" if law.note else ""
        parts.append(
            f"## {law.name}\n\n{law.title}, {law.place}. Source: [{SOURCES[law.source].title}](sources.md#{law.source}). "
            f"Form: {law.form.__class__.__name__}. Counts {law.counts}.\n\n{note}{constants}\n{fitted}"
        )
    return "\n\n".join(parts)


def constants_of(form: Any) -> Iterator[tuple[str, object]]:
    """The numbers of a law's form."""
    names = getattr(form, "_fields", None) or (tuple(field.name for field in fields(form)) if is_dataclass(form) else ())
    yield from ((name, getattr(form, name)) for name in names)


def script(name: str) -> Any:
    """One of the benchmarks, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def accuracy_page() -> str:
    accuracy = script("accuracy")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        accuracy.main()
    measured = output("validate", "--format", "markdown").partition("**Each measurement**")[0]
    return (
        "## Against PyTorch's own count\n\n`python benchmarks/accuracy.py`: absolute errors against training steps that PyTorch"
        f" traced itself.\n\n```text\n{printed.getvalue()}```\n\n## Against published measurements\n\n"
        "```sh\nmemcalc validate\n```\n\nHow far the prediction was from the reading, as measured / predicted − 1."
        " *median* and *p90* are of the absolute error, *low* and *high* the 10th and 90th percentile with their sign.\n\n"
        f"{measured}"
    )


# Colours of a picture in a page, as the theme has them.
THEME = {
    "ink": "var(--md-default-fg-color)", "pale": "var(--md-default-fg-color--light)", "accent": "var(--md-accent-fg-color)",
    "good": "#1a7f37", "bad": "#b42318", "page": "var(--md-default-bg-color)",
}  # fmt: skip


def picture(drawn: Any) -> str:
    """A picture as part of a page."""
    from memcalc.report.svg import picture

    found = picture(drawn)
    for name, colour in THEME.items():
        found = found.replace(f"var(--{name})", colour)
    return found.replace("<svg ", '<svg style="max-width: 100%; height: auto" ', 1)


def pictures(plots: Iterable[Any]) -> str:
    return "\n\n".join(f"### {plot.title}\n\n{picture(plot)}\n\n{plot.legend}" for plot in plots)


def speeds_page() -> str:
    """Serving speed: scores by kind, engine, accelerator and model, and predicted against measured."""
    from memcalc.report.scatter import speed_scatters
    from memcalc.sizing.validation_speed import validate_speed

    scores = output("validate", "--kind", "serving-speed", "--format", "markdown").partition("**Each measurement**")[0]
    return (
        "```sh\nmemcalc validate --kind serving-speed\n```\n\nSpeeds of published deployments, predicted / measured − 1. What"
        f" the law is made of: [How fast a model is served](../explanation/serving-speed.md).\n\n{scores}\n\n"
        f"## Predicted against measured\n\n{pictures(speed_scatters(validate_speed().residuals))}"
    )


def times_page() -> str:
    """Step times: scores by kind, and predicted against measured."""
    from memcalc.estimates.validation_time import KINDS
    from memcalc.report.scatter import time_scatters
    from memcalc.sizing.validation import validate_time

    scores = output("validate", "--kind", "time", "--format", "markdown").partition("**Tokens a second and GPU**")[0]
    rows = validate_time().residuals
    drawn = pictures(time_scatters(rows))
    groups = defaultdict(list)
    for row in rows:
        groups[row.kind, row.group].append(row)
    each = table(
        ("kind", "group", "runs", "engine", "median error", "smallest", "largest", "a factor was set from it"),
        ((KINDS[kind], group, len(found), found[0].engine, f"{median(row.error for row in found):+.1%}",
          f"{min(row.error for row in found):+.1%}", f"{max(row.error for row in found):+.1%}", found[0].fitted)
         for (kind, group), found in sorted(groups.items())),
    )  # fmt: skip
    return (
        "```sh\nmemcalc validate --kind time\n```\n\nTokens a second and GPU of published training runs, predicted / measured"
        f" − 1. What the law is made of: [How long a training step takes](../explanation/time.md).\n\n{scores}\n\n"
        f"## Predicted against measured\n\n{drawn}\n\n## Every group\n\n{each}"
    )


def families_page() -> str:
    """Every model type that is read, with its state."""
    states = [*script("family_states").states()]
    recorded = sum(state.training == "tape" for state in states)
    exact = sum(state.parameters.startswith("exact") for state in states)
    return (
        f"`python benchmarks/family_states.py`: the {len(states)} values of `model_type` that memcalc reads in a config.json."
        " Any other is refused, unless all its keys are those of a llama.\n\n"
        f"- *parameters*: of one config, against the class of transformers 5.24 on the meta device ({exact} exact). A type that"
        " stands only inside others, or that no config at hand has, was *not compared* by itself.\n"
        "- *cache*: what is kept for a sequence while it is generated.\n"
        f"- *training*: by the *tape*, tensor by tensor ({recorded}), or by the *textbook* (Korthikanti et al. 2022), and"
        " what of it memcalc does not record.\n\n"
        + table(
            ("model type", "read by", "parameters", "cache", "training", "presets"),
            ((code(s.model_type), s.reader, s.parameters, s.cache, s.training, s.presets or "") for s in states),
        )
    )


def python_page() -> str:
    import memcalc

    rows = []
    for name in memcalc.__all__:
        found = getattr(memcalc, name)
        kind = "function" if inspect.isroutine(found) else "exception" if issubclass(found, Exception) else "class"
        rows.append((code(name), kind, escaped(one_line((inspect.getdoc(found) or "").split("\n\n")[0]))))
    return "What `import memcalc` offers. A name is loaded when it is first used.\n\n" + table(("name", "", "what it is"), rows)


# what a row of memcalc.readers.weights.llama_cpp says, in words: (field, what it means where it is set)
KEEPS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("sliding", lambda value: f"windows ({windows(value)})"),
    ("latent", lambda _: "a latent, where the file says its heads"),
    ("state", lambda value: f"a state ({value})"),
    ("indexer", lambda _: "an indexer's keys"),
    ("compressed", lambda _: "compressed entries and unfinished windows"),
    ("shared", lambda _: "the last layers read earlier ones' cache"),
    ("loops", lambda _: "a cache each time that a layer runs again"),
    ("router", lambda _: "a layer of one head beside"),
)


def windows(sliding: Any) -> str:
    """Which layers have one, where the file does not say."""
    if sliding.which:
        return "some or all, by the model"
    if not sliding.period:
        return "as the file lists them"
    return f"of {sliding.period} layers all but the {'first' if sliding.full_first else 'last'}"


def gguf_page() -> str:
    from memcalc.readers.weights.gguf_config import ROWS
    from memcalc.readers.weights.llama_cpp import KEEPING

    def kept(row: Any) -> str:
        if row.borrowed:
            return "nothing: it reads the cache of the model that it drafts for"
        said = [words(value) for name, words in KEEPS if (value := getattr(row, name))]
        return "; ".join(said) or ("keys and values" if row.cached else "nothing: it reads all tokens at once")

    rows = [
        (code(name), code(ROWS[name].model_type) if name in ROWS else "", kept(row)) for name, row in sorted(KEEPING.items())
    ]
    return (
        f"The {len(rows)} text architectures of llama.cpp. Parameters and bytes are those of the file's tensors; what a layer "
        "keeps is sized as llama.cpp allocates it, from the file's keys. Where a Hugging Face model type stands beside a name "
        "and its blocks hold and keep the same, the file is read as that model: it can then be trained, and served by other "
        "engines. The other files are served by llama.cpp alone, as they are. `clip` (mmproj files) is the image or sound "
        "tower beside a decoder; its compute buffer is not modelled.\n\n"
        + table(("architecture", "read as", "keeps of each sequence"), rows)
    )


PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "commands": ("Commands and options", commands_page),
    "specs": ("Specs and sizing files", specs_page),
    "json": ("JSON output", json_page),
    "python": ("Python", python_page),
    "formulas": ("Formulas", formulas_page),
    "sources": ("Sources", sources_page),
    "optimizers": ("Optimizers", lambda: listed("One optimizer in full: add its name.", "optimizers")),
    "formats": ("Number formats", lambda: listed("One format in full: add its name.", "formats")),
    "engines": ("Engines", engines_page),
    "families": ("Model types", families_page),
    "gguf": ("GGUF architectures", gguf_page),
    "models": ("Model presets", lambda: listed("One model in full: add its name.", "models")),
    "gpus": ("Accelerators", lambda: listed("One accelerator in full, with its sources: add its name.", "gpus")),
    "runs": ("Published runs", lambda: listed("Published training runs beside memcalc's figures.", "runs")),
    "laws": ("Scaling laws", laws_page),
    "accuracy": ("Accuracy", accuracy_page),
    "step-times": ("Accuracy of step times", times_page),
    "serving-speeds": ("Accuracy of serving speed", speeds_page),
}


# --- where the pages go -----------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """mkdocs' hook: the pages join those that are written by hand."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def write(folder: Path) -> None:
    for path, text in pages().items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
