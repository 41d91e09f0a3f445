"""Keys with sizes that no reader asks for, against transformers: `python benchmarks/unread_keys.py [FIRST [LAST]]`.

A key whose value is left aside without a warning must not change what the library builds: each is set to another value, and
the model is built anew on the meta device. Needs torch and transformers. Exit code 1 where a count changes and memcalc, which
is given the same, says neither the new count nor a word.
"""

import contextlib
import copy
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from families import rows

import memcalc.readers.hf as reader
from memcalc.errors import MemcalcError
from memcalc.readers.hf import read_config
from memcalc.readers.hf.depth import at_depth
from memcalc.readers.hf.unread import WRITTEN_ALWAYS

DEPTH = 2


def unread(values: dict[str, Any]) -> list[str]:
    """Whole numbers above 1, by dotted key, that the reader of this config does not ask for."""
    found: list[str] = []
    plain = reader.unread_sizes

    def noting(config: Any, module: str) -> tuple[str, ...]:
        found.extend(key for key, value in numbers(config.unasked()) if key.rpartition(".")[2] not in WRITTEN_ALWAYS)
        return plain(config, module)

    reader.unread_sizes = noting
    try:
        read_config(values)
    finally:
        reader.unread_sizes = plain
    return found


def numbers(items: Any) -> Iterator[tuple[str, int]]:
    for key, value in items:
        if isinstance(value, dict):
            yield from numbers((f"{key}.{inner}", each) for inner, each in value.items())
        elif isinstance(value, int) and not isinstance(value, bool) and value > 1:
            yield key, value


def with_key(values: dict[str, Any], key: str) -> dict[str, Any]:
    """The config with another value under a key: twice as much, which divides what the old one divides."""
    out = copy.deepcopy(values)
    inner = out
    *path, last = key.split(".")
    for name in path:
        inner = inner[name]
    inner[last] = 2 * inner[last]
    return out


def built(values: dict[str, Any], name: str) -> int | None:
    """Parameters of the library's class; None where it refuses the config."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[values["model_type"]]
    try:
        with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = kind.from_dict(copy.deepcopy(values))
            found = getattr(transformers, name)
            model = found._from_config(config) if hasattr(found, "_from_config") else found(config)
    except Exception:  # what the library refuses
        return None
    return sum(parameter.numel() for parameter in model.parameters())


def ours(values: dict[str, Any]) -> int | None:
    """What memcalc counts without a word; None where it warns or refuses."""
    try:
        found = read_config(values)
    except MemcalcError:
        return None
    return None if found.warnings else found.parameters


def silently_wrong(
    row: dict[str, Any], seen: set[tuple[str, str]] | None = None, tried: list[str] | None = None
) -> Iterator[str]:
    """Keys of a row's config that change what the library builds while memcalc says the old count without a word."""
    seen = set() if seen is None else seen
    values = {**row["config"], "architectures": [row["class"]]}
    with contextlib.suppress(MemcalcError):
        cut = at_depth(values, DEPTH)
        read_config(cut)
        values = cut
    kind = values["model_type"]
    keys = [key for key in unread(values) if (kind, key) not in seen]
    if not keys or (before := built(values, row["class"])) is None or ours(values) != before:
        return
    for key in keys:
        seen.add((kind, key))
        changed = with_key(values, key)
        after = built(changed, row["class"])
        if tried is not None:
            tried.append(key)
        if after is not None and after != before and (said := ours(changed)) is not None and said != after:
            yield f"{kind} {row['class']}: {key} makes {before:,} {after:,}, memcalc says {said:,}"


def main() -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    first, last = (int(word) for word in (*sys.argv[1:3], *("0", "1000000")[len(sys.argv[1:3]) :]))
    seen: set[tuple[str, str]] = set()
    tried: list[str] = []
    wrong = [found for row in rows()[first:last] for found in silently_wrong(row, seen, tried)]
    print("".join(f"{found}\n" for found in wrong), end="")
    print(f"{len(tried)} keys tried, {len(wrong)} silently wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
