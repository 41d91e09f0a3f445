"""Presets: one small TOML file a GPU or a model, found by name; users' own folders come before the shipped ones.

A preset's name is its file's name, so the usual look-up opens one file. Other spellings stand in the file itself
(`aliases = ["h100", ...]`); those of the shipped presets also in an index, so that no other preset is opened for them.
Paths are plain strings: importing pathlib would cost more than reading the preset.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from memcalc.caches import cached
from memcalc.errors import InputError, nearest, one_line
from memcalc.readers.files import read_text

if TYPE_CHECKING:  # a list of models needs no specs, a preset's own name no other names
    from memcalc.readers.names import NameIndex
    from memcalc.specs.hardware import Accelerator

MEASURED = "measured"  # the folder of measurements, whose files are no presets
KINDS = {"gpus": "GPU", "models": "model", "runs": "training run"}  # folder → what one of its files describes
SEARCH_PATH = "MEMCALC_PRESETS"  # environment: folders that hold gpus/ and models/, separated as in PATH
MAX_PRESET_BYTES = 2**20
MAX_DOTS = 100  # in one line: tomllib takes minutes over a key of tens of thousands of dotted parts
SAFE_NAME = re.compile(r"[a-z0-9](?:[._-]?[a-z0-9]){0,99}")  # no separators, no '..': a name cannot leave its folder


MEMORY = r"([0-9]{1,3}(?:\.[0-9]+)?)-?([gmt]?)(i?)b?"  # as people type it where a GPU's name stands


LONGEST_NAME = 60
COUNTED = re.compile(  # 8xH100, "8 x H100" with its spaces as hyphens, SkyPilot's H100:8
    r"(?P<before>[1-9][0-9]{0,5})-?[x×*:]-?(?P<name>.+)|(?P<alone>.+?)-?[x×*:]-?(?P<after>[1-9][0-9]{0,5})"
)
MACHINE = re.compile(r"(?:dgx|hgx)-(?P<name>.+)")  # of eight GPUs


class UnknownPreset(InputError):
    """No preset has that name."""


class Ambiguous(InputError):
    """Several presets have that name."""


def accelerator(name: str, folders: Sequence[str] = ()) -> "Accelerator":
    """The accelerator of that name or alias; `folders` are the user's own (`--presets`).

    >>> accelerator("h100").id
    'h100-sxm-80'
    >>> accelerator("NVIDIA A100-SXM4-80GB").usable == 81920 * 2**20
    True
    """
    return _read_accelerator(find_preset("gpus", name, folders))


def accelerators(folders: Sequence[str] = ()) -> "Iterator[Accelerator]":
    """Every accelerator there is, by name."""
    for path in preset_paths("gpus", folders).values():
        yield _read_accelerator(path)


def read_preset(kind: str, name: str, extra: Sequence[str] = ()) -> dict[str, Any]:
    """What the preset of that name or alias holds, as written."""
    return read_toml(find_preset(kind, name, extra))


def find_preset(kind: str, name: str, extra: Sequence[str] = (), *, exact: bool = False) -> str:
    """The file of a preset: the one so named, else the one that lists the name among its aliases, else the one whose names
    have the same words and numbers. `exact`: the beginning of a name is not enough."""
    wanted = name.lower().strip(" ").replace(" ", "-")  # "RTX 4090", as people and nvidia-smi write it
    if kind == "models" and wanted.endswith("+"):
        wanted = f"{wanted[:-1]}-plus"  # "Command R+"
    if not SAFE_NAME.fullmatch(wanted):
        if kind == "gpus" and (told := _counted(wanted, extra)):
            raise InputError(f"{name[:60]!r} is several GPUs; {told}")
        raise InputError(f"{name[:60]!r} cannot be a {KINDS[kind]}'s name: letters, digits, '.', '_' and '-'")
    folders = preset_folders(kind, extra)
    for folder in folders:
        path = os.path.join(folder, f"{wanted}.toml")
        if os.path.isfile(path):
            return path
    return _by_another_name(kind, name, wanted, folders, extra, exact=exact)


def _by_another_name(
    kind: str, name: str, wanted: str, folders: Sequence[str], extra: Sequence[str], *, exact: bool
) -> str:  # fmt: skip
    from memcalc.readers.names import named

    indexes = [(folder, _names(kind, folder)) for folder in folders]
    for folder, names in indexes:
        if claims := names.aliases.get(wanted):
            if len(claims) > 1:
                raise InputError(f"{wanted!r} is an alias in {' and in '.join(claims)}", place=folder)
            return os.path.join(folder, f"{claims[0]}.toml")
    for beginnings in (False, not exact and kind == "models"):
        for folder, names in indexes:
            if len(found := named(wanted, names, beginnings=beginnings)) == 1:
                return os.path.join(folder, f"{found[0]}.toml")
            if found:
                raise Ambiguous(f"{name!r:.60} names {len(found)} {KINDS[kind]}s: {_listed(found)}; give one of them")
    told = _counted(wanted, extra) if kind == "gpus" else ""
    suggested = f"; {told}" if told else _suggested(kind, wanted, [names for _, names in indexes])
    raise UnknownPreset(f"unknown {KINDS[kind]} {name!r}{suggested}")


def _counted(wanted: str, extra: Sequence[str]) -> str:
    """What to say of a name with a number of GPUs before or after it, or of a machine of eight; "": it has none."""
    if len(wanted) > LONGEST_NAME:
        return ""
    if found := COUNTED.fullmatch(wanted):
        name, count = (found["name"], found["before"]) if found["name"] else (found["alone"], found["after"])
    elif found := MACHINE.fullmatch(wanted):
        name, count = found["name"], "8"
    else:
        return ""
    name = name.strip("- ")
    try:
        find_preset("gpus", name, extra)
    except InputError:
        return ""
    return f"how many is an option of its own: --gpu {name} with --gpus {count} (train, plan, budget) or --tp {count} (infer)"


def _suggested(kind: str, wanted: str, indexes: "list[NameIndex]") -> str:
    """The names that mean most nearly the same, else those that are spelled most alike; memory has an option of its own."""
    from memcalc.readers.names import alike

    if kind == "gpus" and (memory := re.fullmatch(MEMORY, wanted)):
        number, unit, binary = memory.groups()
        return f"; memory of a card that is not in the catalogue is --gpu-memory {number}{(unit or 'g').upper()}{binary}B"
    if kind == "models" and (found := [name for names in indexes for name in alike(wanted, names)]):
        return f"; did you mean {' or '.join(found[:3])}?"
    return nearest(wanted, (spelled for names in indexes for spelled in (*_ids(names), *names.aliases)))


def _ids(names: "NameIndex") -> Iterator[str]:
    return (name for known in names.words.values() for name in known)


def _listed(found: Sequence[str], most: int = 8) -> str:
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _names(kind: str, folder: str) -> "NameIndex":
    """The names of a folder's presets: of the shipped ones as they were written down, of others from their files."""
    from memcalc.readers.names import NameIndex, names_of

    if folder == shipped_folder(kind) and os.path.isfile(index_path("names")):
        entry = read_index("names")[kind]
        return NameIndex(entry["aliases"], entry["words"])
    return names_of({_stem(path): _quietly(path) for path in _files(folder) if SAFE_NAME.fullmatch(_stem(path))})


def index_path(index: str) -> str:
    """Where something about all shipped presets is written down (`memcalc.readers.preset_index`)."""
    return os.path.join(os.path.dirname(shipped_folder("models")), f"{index}.json")


def read_index(index: str) -> dict[str, Any]:
    """One of the indexes, as it was written; it is memcalc's own file, so it is not checked."""
    return _read_index(index_path(index))


@cached(8)
def _read_index(path: str) -> dict[str, Any]:
    import json

    with open(path, encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def _quietly(path: str) -> tuple[str, ...]:
    """The aliases of a file; a broken one has none."""
    with suppress(InputError):
        return _aliases(path)
    return ()


def preset_names(kind: str, extra: Sequence[str] = ()) -> list[str]:
    """Names of all presets of a kind, sorted, without aliases; no file is opened."""
    return list(preset_paths(kind, extra))


def preset_folders(kind: str, extra: Sequence[str] = ()) -> list[str]:
    """Where presets of a kind lie, first wins: `extra`, then the folders in $MEMCALC_PRESETS, then the shipped one."""
    own = [*extra, *filter(None, os.environ.get(SEARCH_PATH, "").split(os.pathsep))]
    for folder in own:
        if not any(os.path.isdir(os.path.join(folder, each)) for each in (*KINDS, MEASURED)):
            raise InputError(f"{folder!r} is no folder of presets: it must hold {' or '.join(f'{k}/' for k in KINDS)}")
    return [*filter(os.path.isdir, (os.path.join(folder, kind) for folder in own)), shipped_folder(kind)]


def shipped_folder(kind: str) -> str:
    """The presets that come with memcalc: inside the package once installed, beside it in a source checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = os.path.join(package, "presets", kind)
    return installed if os.path.isdir(installed) else os.path.join(os.path.dirname(package), "presets", kind)


def read_toml(path: str) -> dict[str, Any]:
    """A bounded UTF-8 TOML file, or one line that says what is wrong with it."""
    return parse_toml(read_text(path, MAX_PRESET_BYTES), path)


def parse_toml(text: str, path: str) -> dict[str, Any]:
    """The tables of a TOML text; `path` names it in errors."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") > MAX_DOTS:
            raise InputError(f"line {number} has more than {MAX_DOTS} dots; break it up", place=path)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError("nested too deeply", place=path) from None
    except ValueError as error:  # a syntax error with its line, or an integer of thousands of digits
        reason = "a number of too many digits" if "digits" in str(error) else one_line(str(error))
        raise InputError(f"not TOML: {reason}", place=path) from None


def _read_accelerator(path: str) -> "Accelerator":
    """One file of the catalogue, read again only when it was written again."""
    try:
        written = os.stat(path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", place=path) from None
    return _accelerator_as_written(path, written.st_mtime_ns, written.st_size, written.st_ino)


@cached(256)
def _accelerator_as_written(path: str, *_: int) -> "Accelerator":
    from memcalc.specs.hardware import Accelerator
    from memcalc.specs.spec import validated

    values: dict[str, Any] = read_toml(path)
    if "id" in values:
        raise InputError("id: unknown key; the file's name is the id", place=path)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    values["id"] = _stem(path)
    result = validated(Accelerator, values, path)
    if result.bandwidth is None:
        raise InputError("bandwidth: missing", place=path)
    for alias in result.aliases:
        if not SAFE_NAME.fullmatch(alias):
            raise InputError(f"aliases: {alias[:60]!r} must be lower-case letters, digits, '.', '_', '-'", place=path)
    return result


def preset_paths(kind: str, extra: Sequence[str]) -> dict[str, str]:
    """Name → file of every preset, sorted by name; the first folder that has a name wins."""
    found: dict[str, str] = {}
    for folder in preset_folders(kind, extra):
        for path in _files(folder):
            name = _stem(path)
            if not SAFE_NAME.fullmatch(name):
                raise InputError("a preset's file name is lower-case letters, digits, '.', '_', '-'", place=repr(path))
            found.setdefault(name, path)
    return dict(sorted(found.items()))


def _files(folder: str) -> Iterable[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.path
                for entry in entries
                if entry.name.endswith(".toml") and not entry.name.startswith(".") and entry.is_file()
            )
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", place=folder) from None


def _aliases(path: str) -> tuple[str, ...]:
    aliases = read_toml(path).get("aliases", ())
    return tuple(alias for alias in aliases if isinstance(alias, str)) if isinstance(aliases, list) else ()


def _stem(path: str) -> str:
    return os.path.basename(path).removesuffix(".toml")
