"""`import memcalc`: every public name is there, says what it is, and is imported when it is asked for.

`python tests/test_public.py` writes memcalc/__init__.pyi, which tells type checkers what memcalc/__init__.py tells Python.
"""

import subprocess
import sys
from pathlib import Path

import pytest

import memcalc
from memcalc import _PUBLIC

STUB = Path(memcalc.__file__).with_suffix(".pyi")


def stub() -> str:
    """The public names as a stub."""
    lines = ['"""Written from memcalc/__init__.py by `python tests/test_public.py`."""', ""]
    for name, (module, attribute) in sorted(_PUBLIC.items(), key=lambda entry: entry[1]):
        lines.append(f"from {module} import {attribute} as {name}")
    listed = "".join(f'    "{name}",\n' for name in sorted(_PUBLIC))
    return "\n".join(lines) + f"\n\n__version__: str\n__all__ = [\n{listed}]\n"


def test_type_checkers_know_the_same_names() -> None:
    assert STUB.read_text(encoding="utf-8") == stub(), "run python tests/test_public.py"


@pytest.mark.parametrize("name", sorted(_PUBLIC))
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    assert name in dir(memcalc)
    assert (getattr(memcalc, name).__doc__ or "").strip(), f"{name} has no docstring"


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'size_trainin'"):
        _ = memcalc.size_trainin  # type: ignore[attr-defined]


def test_every_exception_is_public() -> None:
    raised = {memcalc.MemcalcError, memcalc.InputError, memcalc.SpecError, memcalc.Unsupported}
    assert all(issubclass(error, memcalc.MemcalcError) for error in raised)


def test_importing_memcalc_imports_nothing_of_it() -> None:
    code = "import memcalc, sys; dir(memcalc); print([name for name in sys.modules if name.startswith('memcalc.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
