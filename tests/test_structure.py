"""Imports point one way, only the borders touch the outside, and every formula says what it is and where it is from."""

import ast
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from math import exp
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import memcalc
import memcalc.formulas
from memcalc.blocks.architecture import Architecture
from memcalc.estimates.lines import Line
from memcalc.estimates.serving import estimate as serving
from memcalc.estimates.training import estimate as training
from memcalc.formulas.formula import CARDS, CERTAINTY_ORDER, ceil_div, expression, with_values
from memcalc.formulas.optimizer_table import OPTIMIZERS
from memcalc.formulas.precision import PRECISION_NAMES
from memcalc.sources import SOURCES
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.serving import Serving
from memcalc.specs.training import Training

PACKAGE = Path(memcalc.__file__).parent

# A package may import from its own and from those on lines above it, never from beside or below.
ORDER = (
    ("errors", "caches", "frozen"),
    ("units", "dtypes", "sources"),
    ("formulas", "autograd"),
    ("allocator",),
    ("blocks",),
    ("specs",),
    ("readers", "estimates"),
    ("trace",),
    ("report",),
    ("sizing",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

# What comes from outside the standard library, and who may import it.
OUTSIDE = {
    "click": {"cli"},
    "rich": {"report"},
    "pydantic": {"readers", "specs"},
    "torch": {"trace"},
    "transformers": {"trace"},
    "huggingface_hub": {"readers"},
    "yaml": {"readers"},
}

# Calls that touch the outside world, and the packages or modules that may make them.
BORDER = {
    "open": ("memcalc.readers", "memcalc.report.output"),
    "print": (),
    "input": (),
    "exec": (),
    "eval": (),
    "__import__": (),
}


class Module(NamedTuple):
    name: str
    package: str  # the first name below memcalc; "" for memcalc itself
    tree: ast.Module


def _modules() -> Iterator[Module]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        package = parts[1] if len(parts) > 2 or parts[1] != "__init__" else ""
        yield Module(name, package, ast.parse(path.read_text(encoding="utf-8")))


MODULES = tuple(_modules())


def _imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported, wherever it stands; `from a import b` reads a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import hides where it points"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_every_package_has_its_place() -> None:
    found = {module.package for module in MODULES} - {""}
    assert found <= RANK.keys(), f"no place in ORDER for {sorted(found - RANK.keys())}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.package], ids=lambda m: m.name)
def test_imports_point_one_way(module: Module) -> None:
    wrong = []
    for line, name in _imported(module.tree):
        parts = name.split(".")
        if parts[0] != "memcalc" or parts[1] in (module.package, "__version__"):
            continue
        if RANK[parts[1]] >= RANK[module.package]:
            wrong.append(f"line {line}: {name}")
    assert not wrong, f"{module.name} ({module.package}) imports upward or sideways: {'; '.join(wrong)}"


# Imports that a circle may pass: the public names, which are imported when they are first asked for.
LAZY = {"memcalc"}


def _edges() -> dict[str, set[str]]:
    """Module → the modules of the package that it imports: at its top, inside a function or for a type checker alone."""
    names = {module.name for module in MODULES}
    edges: dict[str, set[str]] = {}
    for module in MODULES:
        imported = {name if name in names else name.rpartition(".")[0] for _, name in _imported(module.tree)}
        edges[module.name] = set() if module.name in LAZY else (imported & names) - {module.name}
    return edges


def test_no_files_import_each_other_in_a_circle() -> None:
    """An import inside a function or under TYPE_CHECKING closes a circle like any other: neither file is understood without
    the other, wherever the line stands."""
    try:
        tuple(TopologicalSorter(_edges()).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' → '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.name)
def test_libraries_stay_where_they_belong(module: Module) -> None:
    wrong = [
        f"line {line}: {name}"
        for line, name in _imported(module.tree)
        if (top := name.split(".")[0]) in OUTSIDE and module.package not in OUTSIDE[top]
    ]
    assert not wrong, f"{module.name} imports {'; '.join(wrong)}; allowed: {OUTSIDE}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.package != "cli"], ids=lambda m: m.name)
def test_only_the_borders_touch_the_outside(module: Module) -> None:
    wrong = [
        f"line {node.lineno}: {node.func.id}(…)"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BORDER
        if not module.name.startswith(BORDER[node.func.id] or ("nowhere",))
    ]
    assert not wrong, f"{module.name} calls {'; '.join(wrong)}"


# Its classes are the definitions of the published JSON Schema, named after what each is the document of.
DOCUMENTS = ("memcalc.report.contract", "memcalc.report.contract_memory")


def test_a_class_name_says_one_thing() -> None:
    """Whoever reads a name, or searches for it, finds one class."""
    homes: dict[str, list[str]] = {}
    for module in MODULES:
        if module.name not in DOCUMENTS:
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ClassDef):
                    homes.setdefault(node.name, []).append(f"{module.name}:{node.lineno}")
    twice = {name: places for name, places in homes.items() if len(places) > 1}
    assert not twice, f"say what each is: {twice}"


# --- formulas ---------------------------------------------------------------------------------------------------------

for _found in pkgutil.iter_modules(memcalc.formulas.__path__):
    import_module(f"memcalc.formulas.{_found.name}")

# Those that a module owns; a doctest's own formulas are not ours.
FORMULAS = [f for f in CARDS if getattr(import_module(f.__module__), f.__name__, None) is f]
UNITS = ("[B]", "[B ", "[count]", "[elements", "[FLOP]", "[s]", "[kWh]")
NAMES: dict[str, Any] = {
    "ceil_div": ceil_div, "min": min, "max": max, "round": round, "int": int, "exp": exp, "__builtins__": {},
}  # fmt: skip
each_formula = pytest.mark.parametrize("function", FORMULAS, ids=lambda f: f.__name__)


@each_formula
def test_a_formula_says_what_it_is(function: Callable[..., Any]) -> None:
    card, text = CARDS[function], function.__doc__ or ""
    assert card.source in SOURCES, f"{card.source!r} is not in memcalc.sources"
    assert card.certainty in CERTAINTY_ORDER
    assert "Returns" in text, f"does not say what it returns:\n{text}"
    assert any(unit in text for unit in UNITS), f"names no unit ({', '.join(UNITS)}):\n{text}"


@each_formula
def test_the_displayed_expression_is_the_formula(function: Callable[..., Any]) -> None:
    """Whatever numbers go in: the text that reports show gives what the function gives."""
    names = list(inspect.signature(function).parameters)
    for start in (2, 7, 1000):
        inputs = {name: start + 3 * position for position, name in enumerate(names)}
        shown, value = expression(function), function(**inputs)
        evaluated = eval(shown, {**NAMES, **inputs})
        assert evaluated == value, f"{shown} with {inputs} is {evaluated}, the function gives {value}"


def test_sources_are_complete() -> None:
    for key, source in SOURCES.items():
        assert all((source.title, source.authors, source.where)), key
        assert 1900 < source.year < 2100, f"{key}: {source.year}"


# --- lines: what a report shows can be checked with a pocket calculator -----------------------------------------------

ZERO = [{"gpus": 12, "zero": stage} for stage in range(4)]
FSDP = [{"gpus": 12, "fsdp": name} for name in ("full", "grad-op", "hybrid", "none")]
RUNS: list[dict[str, Any]] = [
    {},
    {"parallelism": {"gpus": 12}},
    *({"parallelism": sharding} for sharding in (*ZERO, *FSDP)),
    *({"parallelism": {"gpus": 8, "zero": 3}, "precision": name} for name in PRECISION_NAMES),
    *({"optimizer": name} for name in OPTIMIZERS),
    *({"parallelism": {"gpus": 6, "fsdp": "full"}, "optimizer": name} for name in OPTIMIZERS),
    *({"parallelism": {"gpus": 6, "zero": 2}, "optimizer": name} for name in ("adamw-8bit", "adamw-4bit", "lion-8bit")),
    *({"parallelism": {"gpus": 8, "tp": 2, "pp": 4}, "grad_accum": 8, "recompute": r} for r in ("none", "selective", "full")),
    {"parallelism": {"gpus": 8, "tp": 4, "sequence_parallel": True}, "attention": "eager"},
    {"parallelism": {"gpus": 8, "pp": 4, "pipeline_schedule": "gpipe"}, "grad_accum": 3},
    *({"method": method, "lora_rank": 7} for method in ("lora", "qlora")),
    *({"method": method, "parallelism": {"gpus": 6, "zero": 3}} for method in ("lora", "qlora")),
    {"method": "qlora", "parallelism": {"gpus": 6, "fsdp": "full"}, "offload": ("parameters",)},
    {"parallelism": {"gpus": 16, "zero": 3}, "offload": ("optimizer", "parameters"), "offload_to": "nvme"},
]
MODELS = ("meta-llama/Meta-Llama-3.1-8B", "Qwen/Qwen3-30B-A3B", "openai-community/gpt2", "google/gemma-2-2b")
SERVED: list[dict[str, Any]] = [
    {"weights": weights, "kv_dtype": cache, "context": 10_000, "batch": 3, "tp": tp}
    for weights, cache, tp in (
        ("bf16", "bf16", 1),
        ("int4-g128", "fp8-e4m3", 2),
        ("q4_k", "q8_0", 4),
        ("nf4-dq", "fp16", 1),
    )
]


def _check(lines: Iterable[Line], case: object) -> None:
    for entry in lines:
        shown = expression(entry.formula)
        value = eval(shown, {**NAMES, **entry.inputs})
        assert value == entry.bytes, f"{case}: {entry.path}: {shown} is {value}, the line says {entry.bytes}"
        filled = with_values(entry.formula, entry.inputs)
        value = eval(filled, NAMES)
        assert value == entry.bytes, f"{case}: {entry.path}: {filled} is {value}, the line says {entry.bytes}"
        assert isinstance(entry.bytes, int), f"{case}: {entry.path}: {entry.bytes!r} is not a whole number"
        assert entry.document()["source"].split(":")[0] in SOURCES


@pytest.mark.parametrize("name", MODELS)
def test_every_line_of_a_training_estimate_evaluates(name: str, architecture: Callable[..., Architecture]) -> None:
    for case in RUNS:
        run = Training(**{"seq_len": 512, **case, "parallelism": Parallelism(**case.get("parallelism", {}))})
        found = training.estimate(architecture(name), run)
        _check(found.lines, case)
        for alive in found.alive:
            _check(alive.lines, (case, alive.moment.name))


def test_every_line_of_a_bare_count_evaluates() -> None:
    for sharding in ({}, {"gpus": 5}, *ZERO, *FSDP):
        run = Training(parallelism=Parallelism(**sharding))
        found = training.estimate_parameters(6_999_999_999, run)
        for lines in (found.lines, *(alive.lines for alive in found.alive)):
            _check(lines, sharding)


@pytest.mark.parametrize("name", MODELS)
def test_every_line_of_a_serving_estimate_evaluates(name: str, architecture: Callable[..., Architecture]) -> None:
    for case in SERVED:
        _check(serving.estimate(architecture(name), Serving(**case)).lines, case)
