"""What is known of all shipped presets, written down beside them: names.json and models.json.

`python -m memcalc.cli.generate` writes them, a test keeps them equal to the presets. With them a name is looked up
without opening the presets that it does not name, and the list of models needs no architecture.
"""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from memcalc.readers.catalogue import KINDS, index_path, preset_names, preset_paths, read_index, read_preset, shipped_folder
from memcalc.readers.names import names_of


def index_texts() -> dict[str, str]:
    """Path → text of each index."""
    names = {kind: names_of(_aliases(kind))._asdict() for kind in KINDS}
    models = {"models": [facts(name, ()) for name in preset_names("models")]}
    return {index_path("names"): f"{_lines(names, 3)}\n", index_path("models"): f"{_lines(models, 2)}\n"}


def model_facts(folders: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Of every model preset what the list of models shows, by name; users' own are read, the shipped ones looked up."""
    shipped = shipped_folder("models")
    written = {entry["id"]: entry for entry in read_index("models")["models"]} if os.path.isfile(index_path("models")) else {}
    for name, path in preset_paths("models", folders).items():
        yield written[name] if name in written and os.path.dirname(path) == shipped else facts(name, folders)


def facts(name: str, folders: Sequence[str]) -> dict[str, Any]:
    """Of one model preset what the list of models shows."""
    from memcalc.readers.models import read_model_preset

    model = read_model_preset(name, folders)
    a = model.architecture
    assert a is not None  # a preset always holds one
    return {"id": name, "name": a.name, "model_type": a.model_type, "parameters": a.parameters,
            "active_parameters": a.active_parameters, "context": a.context, "dtype": a.dtype,
            "source": model.source}  # fmt: skip


def _aliases(kind: str) -> dict[str, list[str]]:
    return {name: read_preset(kind, name).get("aliases", []) for name in preset_names(kind)}


def _lines(value: Any, depth: int) -> str:
    """JSON with one entry a line down to a depth, so that a difference can be read."""
    if not depth or not value:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[\n" + ",\n".join(_lines(entry, depth - 1) for entry in value) + "\n]"
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {_lines(entry, depth - 1)}" for key, entry in value.items()) + "\n}"
