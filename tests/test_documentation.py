"""The documentation is run: every command works, every output is what is printed, every command and every path is there.

`python docs/examples.py` writes the shown outputs anew.
"""

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from memcalc.cli import COMMANDS

ROOT = Path(__file__).parent.parent
NEEDS_AN_EXTRA = ("trace",)  # shown as text, because it runs with PyTorch only


def module(name: str) -> ModuleType:
    """A script of docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


examples, generate = module("examples"), module("generate")

WRITTEN = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in examples.PAGES}
GENERATED = {f"docs/{path}": text for path, text in generate.pages().items()}
EVERY = [
    (page, command)
    for page, text in {**WRITTEN, **GENERATED}.items()
    for command in examples.commands(text)
    if command.text.split()[1] not in NEEDS_AN_EXTRA
]
ONCE = list({command: (page, command) for page, command in EVERY}.values())  # however many pages show it
PYTHON = [page for page, text in WRITTEN.items() if "```pycon\n" in text]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the examples, and the config.json that help texts speak of."""
    shutil.copy(ROOT / "examples" / "my-model" / "config.json", tmp_path)
    found: Path = examples.workplace(tmp_path)
    return found


@pytest.mark.parametrize(("page", "command"), ONCE, ids=lambda value: str(getattr(value, "text", value))[:70])
def test_every_command(page: str, command: Any, folder: Path) -> None:
    done = examples.run(command.text, folder)
    said = done.stderr or done.stdout[-500:]
    assert done.returncode == command.code, f"{page}: exit {done.returncode}, {command.code} promised: {said}"
    assert "Traceback" not in done.stderr
    if command.shown is not None:
        assert command.shown == done.stdout, f"{page}: `python docs/examples.py` writes the outputs anew"


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_of_a_page(page: str) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for kind, block in examples.BLOCK.findall(WRITTEN[page]):
        if kind == "pycon":
            assert examples.python_output(block, names) == block, f"{page}: `python docs/examples.py` writes the outputs anew"


def test_the_readme() -> None:
    """Short, and led by what memcalc prints."""
    text = WRITTEN["README.md"]
    assert len(text.encode()) <= 9000, f"{len(text.encode())} bytes; what is longer belongs in docs/"
    assert any(command.shown for command in examples.commands(text)), "no output is shown"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_memcalc_is_shown(name: str) -> None:
    if name in NEEDS_AN_EXTRA:
        assert any(f"memcalc {name} " in text for text in WRITTEN.values())
    else:
        assert any(re.search(rf"memcalc {name}\b", command.text) for page, command in EVERY if page in WRITTEN), (
            f"{name}: in no page"
        )


def test_nothing_is_documented_that_does_not_exist() -> None:
    for page, text in WRITTEN.items():
        named = set(re.findall(r"`memcalc ([a-z]+)", text))
        assert named <= COMMANDS.keys(), f"{page} names {sorted(named - COMMANDS.keys())}"


# --- names of files ---------------------------------------------------------------------------------------------------

TOP = ("memcalc", "tests", "docs", "presets", "benchmarks", "examples", ".ci")
NO_PATHS = ("memcalc/1",)  # the version of the JSON
PATH = re.compile(rf"`((?:{'|'.join(map(re.escape, TOP))})/[^`\s]*)`")


def paths() -> Iterator[tuple[str, str]]:
    """Files and folders of this repository that pages name: `memcalc/dtypes.py`, `tests/specs/`."""
    for page, text in WRITTEN.items():
        for path in PATH.findall(text):
            if path not in NO_PATHS:
                yield page, path


@pytest.mark.parametrize(("page", "path"), sorted(set(paths())))
def test_every_path_exists(page: str, path: str) -> None:
    """`path.py::name` also says that the file has such a name."""
    file, _, name = path.partition("::")
    assert (ROOT / file).exists(), f"{page} names {file}, which is not there"
    assert not name or re.search(rf"\b{name}\b", (ROOT / file).read_text(encoding="utf-8")), f"{page}: no {name} in {file}"


def test_every_package_has_its_floor() -> None:
    packages = {path.parent.name for path in (ROOT / "memcalc").glob("*/__init__.py")}
    named = set(re.findall(r"^\| \d+ \|.*", WRITTEN["CONTRIBUTING.md"], re.MULTILINE))
    missing = [name for name in packages if not any(f"`memcalc/{name}/`" in line for line in named)]
    assert not missing, f"CONTRIBUTING.md has no floor for {missing}"


# --- the generated reference ------------------------------------------------------------------------------------------


def test_the_reference_names_everything() -> None:
    from memcalc.formulas.formula import CARDS
    from memcalc.formulas.optimizer_table import OPTIMIZERS

    options = GENERATED["docs/reference/commands.md"]
    assert all(f"\n## {name}\n" in options for name in COMMANDS)
    assert all(f"| {name} |" in GENERATED["docs/reference/optimizers.md"] for name in OPTIMIZERS)
    formulas = GENERATED["docs/reference/formulas.md"]
    assert [f for f in CARDS if f.__module__.startswith("memcalc.formulas.") and f"### {f.__name__}\n" not in formulas] == []


def test_the_site_builds(tmp_path: Path) -> None:
    """Strictly: no broken link, no page that is left out, nothing to be fetched from elsewhere."""
    build = pytest.importorskip("mkdocs.commands.build")
    config = pytest.importorskip("mkdocs.config").load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path))
    build.build(config)
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    fetched = re.findall(r"<(?:script|link rel=\"stylesheet\")[^>]*(?:src|href)=\"(https?:[^\"]*)", home)
    assert not fetched, fetched


def test_the_table_of_families_has_all_of_them_with_their_state() -> None:
    """The page is made of what the code answers: every model type once, none wrong, and the states that are known."""
    from memcalc.readers.hf.families import MODULES

    lines = [line for line in GENERATED["docs/reference/families.md"].splitlines() if line.startswith("| `")]
    cells = {line.split("`")[1]: [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines}
    assert sorted(cells) == sorted(MODULES)
    assert [name for name, row in cells.items() if row[2] == "wrong"] == []
    assert cells["llama"][2:5] == ["exact", "keys and values", "tape"]
    assert cells["gemma3n_text"][4] == "tape"
    assert [name for name, row in cells.items() if row[4].startswith("textbook (")]
    assert cells["deepseek_v3"][3] == "latent"
    assert cells["bert"][3] == "none"


def test_the_table_of_gguf_architectures_has_all_of_them() -> None:
    from memcalc.readers.weights.gguf_config import ROWS
    from memcalc.readers.weights.llama_cpp import KEEPING

    lines = [line for line in GENERATED["docs/reference/gguf.md"].splitlines() if line.startswith("| `")]
    cells = {line.split("`")[1]: [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines}
    assert sorted(cells) == sorted(KEEPING)
    assert {name for name, row in cells.items() if row[1]} == set(ROWS)
    assert cells["gemma2"][2] == "windows (of 2 layers all but the last)"
    assert cells["kimi-linear"][2] == "a latent, where the file says its heads; a state (kda)"
    assert cells["bert"][2].startswith("nothing")
