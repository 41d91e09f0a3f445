"""YAML that begins with another one's keys: both read, the nearer file's keys win.

NeMo RL names files (`defaults: ../grpo_math_1B.yaml`); Hydra names groups of a tree and where they are mounted (`defaults:
[actor@actor_rollout_ref.actor: dp_actor, ../optim@optim: fsdp, _self_]`; hydra/_internal/defaults_list.py).
"""

import os
import re

from memcalc.errors import InputError, MemcalcError, one_line
from memcalc.frozen import NamedTuple
from memcalc.readers.files import Opened
from memcalc.readers.launch.nodes import Entry, Listed, Mapped, Scalar, at, entries

MAX_FILES = 64  # that a file begins with, and these
KEY, SELF = "defaults", "_self_"
GROUP = re.compile(r"(?:override )?((?:\.\./)*/?\w[\w/]*)(?:@([\w.]+))?")  # group@package: option
NAMED = re.compile(r"(\w[\w/.-]*?)(?:@([\w.]+))?")  # an option, or a file beside this one
PACKAGE = re.compile(r"\s*#\s*@package\s+(\S+)")


def with_parents(node: Mapped, name: str, folder: str, opened: Opened) -> tuple[list[Entry], list[str]]:
    """The entries of a file under those of the files that it begins with, and what is to be told of files that are not here."""
    return _Tree(opened, _searched(node, folder)).entries(node, name, folder, (), "")


class Parent(NamedTuple):
    """A file that another begins with, and where its keys go: None of a file that is named as such, at the top."""

    path: str
    package: str | None = None


class _Tree:
    """Files read so far, and where Hydra looks for those that are not beside the file that names them."""

    def __init__(self, opened: Opened, searched: tuple[str, ...]) -> None:
        self.opened, self.searched, self.read = opened, searched, 0

    def entries(
        self, node: Mapped, name: str, folder: str, above: tuple[str, ...], package: str
    ) -> tuple[list[Entry], list[str]]:
        """Of a file at a place of the tree; what stands later wins, the file's own keys where `_self_` stands, else last."""
        own = {entry.key: entry for entry in entries(node, name, package)}
        found: dict[str, Entry] = {}
        notes: list[str] = []
        unread = False
        parents = _parents(node)
        for parent in parents:
            if parent.path == SELF:
                found = _over(found, own)
                continue
            path, text = self._found(parent, folder)
            if text is None and parent.package is not None:  # its key is told as not known
                unread = True
            elif path is None or text is None:
                notes.append(
                    f"{name}:{node.lines[KEY]}: {one_line(parent.path, 80)} is not here; "
                    "what it says is not known (give it too)"
                )
            else:
                self.read += 1
                if path in above or self.read > MAX_FILES:
                    raise InputError(
                        f"{one_line(parent.path, 80)} leads back to itself, or too far", place=f"{name}:{node.lines[KEY]}"
                    )
                beside = os.path.relpath(path, os.path.realpath(folder or "."))
                shown = os.path.normpath(os.path.join(os.path.dirname(name), beside))
                listed, more = self._parsed(text, shown, path, above, _joined(package, parent.package or ""))
                found = _over(found, {entry.key: entry for entry in listed})
                notes += more
        if Parent(SELF) not in parents:
            found = _over(found, own)
        whole = parents and not notes and not unread
        here = f"{package}.{KEY}" if package else KEY
        return [entry for entry in found.values() if not (whole and entry.key.partition("[")[0] == here)], notes

    def _parsed(self, text: str, shown: str, path: str, above: tuple[str, ...], package: str) -> tuple[list[Entry], list[str]]:
        from memcalc.readers.launch.yaml_text import read_yaml

        if said := PACKAGE.match(text):
            package = "" if said[1] == "_global_" else package
        documents = read_yaml(text, shown)
        if not (documents and isinstance(documents[0], Mapped)):
            return [], []
        return self.entries(documents[0], shown, os.path.dirname(path), (*above, path), package)

    def _found(self, parent: Parent, folder: str) -> tuple[str | None, str | None]:
        """A file's path and text, beside the one that names it or where the tree says."""
        for place in (folder, *(self.searched if parent.package is not None else ())):
            path = _inside(parent.path, place)
            text = None if path is None else self.opened(path)
            if text is not None:
                return path, text
        return None, None


def _parents(node: Mapped) -> list[Parent]:
    """What `defaults` names: files, or Hydra's groups with their options."""
    said = at(node, KEY)
    items = [said] if isinstance(said, Scalar) else said.items if isinstance(said, Listed) else []
    found: list[Parent] = []
    for item in items:
        if isinstance(item, Scalar):
            text = item.text or ""
            if text == SELF:
                found.append(Parent(SELF))
            elif text.endswith((".yaml", ".yml")) and "$" not in text:
                found.append(Parent(text))
            elif isinstance(said, Listed) and (parent := NAMED.fullmatch(text)):
                found.append(Parent(f"{parent[1]}.yaml", _package(parent[2] or "")))
        elif isinstance(item, Mapped):
            for key, option in item.items.items():
                group = GROUP.fullmatch(key)
                if group and isinstance(option, Scalar) and NAMED.fullmatch(option.text or ""):
                    place = group[2] if group[2] is not None else group[1].lstrip("./").replace("/", ".")
                    found.append(Parent(f"{group[1].lstrip('/')}/{option.text}.yaml", _package(place)))
    return found


def _over(found: dict[str, Entry], later: dict[str, Entry]) -> dict[str, Entry]:
    """The later ones win, and stand last: of two keys that say one fact the last counts."""
    return {key: entry for key, entry in found.items() if key not in later} | later


def _package(said: str) -> str:
    return "" if said in ("_here_", "_global_") else said


def _joined(package: str, inner: str) -> str:
    return f"{package}.{inner}" if package and inner else package or inner


def _searched(node: Mapped, folder: str) -> tuple[str, ...]:
    """hydra.searchpath: folders, from the repository's own."""
    found = at(node, "hydra", "searchpath")
    texts = [item.text or "" for item in found.items if isinstance(item, Scalar)] if isinstance(found, Listed) else []
    root = _root(os.path.realpath(folder or "."))
    return tuple(os.path.join(root, text.removeprefix("file://")) for text in texts if text.startswith("file://"))


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
