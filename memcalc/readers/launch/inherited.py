"""YAML that begins with another one's keys (`defaults: ../grpo_math_1B.yaml`): both read, the nearer file's keys win."""

import os

from memcalc.errors import InputError, MemcalcError, one_line
from memcalc.readers.files import Opened
from memcalc.readers.launch.nodes import Entry, Listed, Mapped, Scalar, at, entries

MAX_FILES = 16  # that a file begins with, and these
KEY = "defaults"


def with_parents(node: Mapped, name: str, folder: str, opened: Opened) -> tuple[list[Entry], list[str]]:
    """The entries of a file under those of the files that it begins with, and what is to be told of files that are not here."""
    return _entries(node, name, folder, (), [], opened)


def _entries(
    node: Mapped, name: str, folder: str, above: tuple[str, ...], read: list[str], opened: Opened
) -> tuple[list[Entry], list[str]]:
    own = [*entries(node, name)]
    found: dict[str, Entry] = {}
    notes: list[str] = []
    parents = _parents(node)
    for parent in parents:
        path = _inside(parent, folder)
        text = None if path is None else opened(path)
        if path is None or text is None:
            notes.append(
                f"{name}:{node.lines[KEY]}: {one_line(parent, 80)} is not here; what it says is not known (give it too)"
            )
            continue
        read.append(path)
        if path in above or len(read) > MAX_FILES:
            raise InputError(f"{one_line(parent, 80)} leads back to itself, or too far", place=f"{name}:{node.lines[KEY]}")
        from memcalc.readers.launch.yaml_text import read_yaml

        shown = os.path.join(os.path.dirname(name), parent)
        documents = read_yaml(text, shown)
        if documents and isinstance(documents[0], Mapped):
            listed, more = _entries(documents[0], shown, os.path.dirname(path), (*above, path), read, opened)
            found |= {entry.key: entry for entry in listed}
            notes += more
    whole = parents and not notes
    own = [entry for entry in own if not (whole and entry.key.partition("[")[0] == KEY)]
    kept = [entry for key, entry in found.items() if key not in {each.key for each in own}]
    return [*kept, *own], notes


def _parents(node: Mapped) -> list[str]:
    """The files that `defaults` names; names without an ending are Hydra's own, which only its search path finds."""
    said = at(node, KEY)
    items = [said] if isinstance(said, Scalar) else said.items if isinstance(said, Listed) else []
    texts = [item.text or "" for item in items if isinstance(item, Scalar)]
    return [text for text in texts if text.endswith((".yaml", ".yml")) and "$" not in text]


def _inside(path: str, folder: str) -> str | None:
    """A file by its path from `folder`, inside of the repository, or of the working folder, that holds both; else None."""
    here = os.path.realpath(folder or ".")
    found = os.path.realpath(os.path.join(here, path))
    try:
        if os.path.commonpath((found, _root(here))) == _root(here):
            return found
    except (MemcalcError, ValueError, OSError):
        pass
    return None


def _root(folder: str) -> str:
    """The nearest folder above that holds .git; without one the working folder, where it is above, or the folder itself."""
    above = folder
    while above != os.path.dirname(above):
        if os.path.exists(os.path.join(above, ".git")):
            return above
        above = os.path.dirname(above)
    working = os.path.realpath(".")
    return working if os.path.commonpath((working, folder)) == working else folder
