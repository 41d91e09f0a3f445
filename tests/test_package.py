"""The wheel, installed where nothing else of memcalc is, finds its presets and its command."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="the tests run outside a source checkout"),
]


def done(*words: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> str:
    result = subprocess.run(
        [str(word) for word in words], cwd=cwd, env={**os.environ, **(environment or {})}, capture_output=True,
        encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{' '.join(map(str, words))}\n{result.stdout[-1500:]}\n{result.stderr[-1500:]}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, as an index would build it: what that lacks the wheel lacks too."""
    place = tmp_path_factory.mktemp("dist")
    done(sys.executable, "-m", "build", "--no-isolation", "--outdir", place, ROOT, cwd=place)
    (found,) = place.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `memcalc` of a fresh virtual environment that sees our dependencies, but not our checkout."""
    place = tmp_path_factory.mktemp("venv")
    done(sys.executable, "-m", "venv", "--without-pip", place, cwd=place)
    python = place / "bin" / "python"
    site = Path(done(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet",
         "--disable-pip-version-check", wheel, cwd=place)  # fmt: skip
    return place / "bin" / "memcalc"


def test_the_installed_command(installed: Path, tmp_path: Path) -> None:
    """In an empty folder, without anything that would help it find the checkout. One test: workers share no wheel."""

    def run(*words: str, program: Path = installed) -> str:
        return done(program, *words, cwd=tmp_path, environment={"PYTHONPATH": "", "MEMCALC_PRESETS": ""})

    where = run("-c", "import memcalc; print(memcalc.__file__)", program=installed.parent / "python").strip()
    assert Path(where).is_relative_to(installed.parent.parent), f"another memcalc was tested: {where}"

    for kind in ("gpus", "models"):
        shipped = {path.stem for path in (ROOT / "presets" / kind).glob("*.toml")}
        found = {entry["id"] for entry in json.loads(run(kind, "--format", "json"))[kind]}
        assert found == shipped, f"{kind}: {sorted(shipped ^ found)[:5]} only on one side"

    trained = ("train", "llama-3.1-8b", "--gpus", "8", "--zero", "3", "--gpu", "h100")
    assert "FITS" in run(*trained)
    document = json.loads(run(*trained, "--format", "json"))
    assert document["gpu"]["fits"]
    formulas = {line["formula"] for line in document["lines"]}
    assert "partitioned_elements * bytes_each" in formulas, "expressions are read from the source, which a wheel has too"
    assert run("infer", "llama-3.1-8b", "--get", "per_gpu.kv_cache_per_token") == "131072\n"


def test_what_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "memcalc/py.typed" in names, "type checkers need the marker"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    strangers = {name.split("/")[0] for name in names} - {"memcalc"}
    assert all(name.endswith(".dist-info") for name in strangers), strangers
    assert not [name for name in names if "__pycache__" in name or "tests" in name.split("/")]
    (metadata,) = (zipfile.ZipFile(wheel).read(name).decode() for name in names if name.endswith("METADATA"))
    needed = sorted(
        line.split(":")[1].split(">")[0].strip()
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist") and "extra ==" not in line
    )
    assert needed == ["click", "pydantic", "rich"], needed
