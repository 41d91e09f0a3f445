"""What memcalc answers for each model type that it reads: `python benchmarks/family_states.py`.

Each type is read from one config: of tests/reference/families.json, whose parameters transformers counted, what is nested in
one, or a preset's. The documentation shows this table; nothing in it is written by hand.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import memcalc
from memcalc.blocks.architecture import Architecture
from memcalc.errors import MemcalcError
from memcalc.estimates.serving.footprint import footprint
from memcalc.readers.catalogue import preset_names
from memcalc.readers.hf import read_config
from memcalc.readers.hf.families import KIN, MODULES
from memcalc.readers.models import Model, read_config_values

sys.path.insert(0, str(Path(__file__).parent))
from families import rows

NOT_COMPARED = "not compared"


class State(NamedTuple):
    """One model type."""

    model_type: str
    reader: str
    parameters: str
    cache: str
    training: str
    presets: int


class Example(NamedTuple):
    """A config of a model type, and what transformers counts in it where that is known."""

    config: Mapping[str, Any]
    parameters: int | None = None


def states() -> Iterator[State]:
    """Every model type, by name."""
    examples = _examples()
    shipped = Counter(kind for name in preset_names("models") for kind in {*_kinds(read_config_values(name))})
    for model_type in sorted(MODULES):
        reader = MODULES[model_type] + (f", as {KIN[model_type].like}" if model_type in KIN else "")
        told = (NOT_COMPARED, "", "")
        for example in examples.get(model_type, ()):
            if not (told := _told(example))[0].startswith("refused"):
                break
        yield State(model_type, reader, *told, shipped[model_type])


def _told(example: Example) -> tuple[str, str, str]:
    """Parameters, cache and training of a config."""
    try:
        architecture = read_config(example.config)
    except MemcalcError as error:
        return f"refused: {str(error).partition(': ')[2]}", "", ""
    found = NOT_COMPARED
    if example.parameters is not None:
        found = "exact" if architecture.parameters == example.parameters else "wrong"
        found += ", with a warning" if architecture.warnings else ""
    return found, _cache(architecture), _training(architecture)


def _examples() -> dict[str, list[Example]]:
    """Model type → configs of it, those that transformers counted first; the second is for a first that is refused."""
    found: dict[str, list[Example]] = {}
    table = rows()
    for row in table:
        kind = row["config"]["model_type"]
        example = Example({**row["config"], "architectures": [row["class"]]}, row["total_params"])
        found.setdefault(kind, []).append(example)
    for config in map(read_config_values, preset_names("models")):
        found.setdefault(config["model_type"], []).append(Example(config))
    for row in table:
        for nested in row["config"].values():
            if isinstance(nested, dict) and nested.get("model_type") in MODULES:
                found.setdefault(nested["model_type"], []).append(Example(nested))
    return found


def _kinds(config: Mapping[str, Any]) -> Iterator[str]:
    """The model type of a config, and those nested in it."""
    if config.get("model_type") in MODULES:
        yield config["model_type"]
    for nested in config.values():
        if isinstance(nested, dict):
            yield from _kinds(nested)


def _cache(architecture: Architecture) -> str:
    """What a sequence keeps, in words."""
    if not architecture.predicted:
        return "none"
    takes = footprint(architecture)
    latent = any(b.traits.kv_lora_rank for p in architecture.parts for s in p.stacks for la in s.layers for _, b in la.blocks)
    words = {
        "latent" if latent else "keys and values": takes.growing, "windows": takes.windowed, "states": takes.per_sequence,
        "the encoder's": takes.source,
    }  # fmt: skip
    return ", ".join(word for word, lines in words.items() if lines) or "none"


def _training(architecture: Architecture) -> str:
    """On the tape, tensor by tensor, or by the textbook's formula and why; or why not at all."""
    model = Model(architecture.model_type, architecture, architecture.parameters, "config")
    try:
        approximation = memcalc.size_training(model, None, seq_len=128).rank.approximation
    except MemcalcError as error:
        return f"refused: {error}"
    reason = approximation.partition(": ")[0].removesuffix(" is not modelled").removeprefix("training with ")
    return f"textbook ({reason.removeprefix('training ')})" if approximation else "tape"


if __name__ == "__main__":
    print(json.dumps([state._asdict() for state in states()], indent=1))
