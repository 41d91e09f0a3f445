"""vLLM's recipes (vllm-project/recipes, models/ORG/NAME.yaml): what `vllm serve` each variant of a model comes to.

Features are on unless `opt_in_features` names them (scripts/build-recipes-api.mjs); how many GPUs share a model is worked out
from the hardware that a reader of the site chooses, unless a variant or a strategy says it.
"""

from collections.abc import Iterator

from memcalc.readers.launch.arguments import options
from memcalc.readers.launch.job import Job
from memcalc.readers.launch.kinds.vllm import KEYS, VLLM
from memcalc.readers.launch.meanings import Ignored, Imported, Unmodelled, meaning_of
from memcalc.readers.launch.nodes import Entry, Mapped, Node, Scalar, at, entries, rows_at, text_at
from memcalc.readers.launch.reading import Reading, take
from memcalc.readers.launch.shell.run import Word

ABOUT = Ignored("of the recipe's page", True)
OPTIONAL = Ignored("of a feature that is off unless it is chosen", True)
ELSEWHERE = Unmodelled("what is added on some hardware, or by some strategies, alone", ())


def is_recipe(node: Node) -> bool:
    return bool(text_at(node, "model", "model_id")) and isinstance(at(node, "variants"), Mapped)


def recipe_jobs(node: Node, file: str) -> Iterator[Job]:
    """A server of each variant."""
    variants = at(node, "variants")
    for name, variant in variants.items.items() if isinstance(variants, Mapped) else ():
        reading = Reading({}, [])
        own = isinstance(variant, Mapped) and text_at(variant, "model_id")
        place = variant if own else at(node, "model")
        _say(reading, place, "model_id", "model", f"variants.{name}.model_id" if own else "model.model_id", file)
        chosen = {item.text for item in rows_at(node, "opt_in_features") if isinstance(item, Scalar)}
        features = at(node, "features")
        for feature, table in features.items.items() if isinstance(features, Mapped) else ():
            if feature not in chosen:
                _options(reading, rows_at(table, "args"), file)
            for entry in entries(table, file, f"features.{feature}"):
                if not entry.key.endswith(".args"):
                    take(reading, entry, ABOUT)
                elif feature in chosen:
                    take(reading, entry, OPTIONAL)
        _options(reading, rows_at(node, "model", "base_args"), file)
        _options(reading, rows_at(variant, "extra_args"), file)
        _degree(reading, node, name, file)
        _rest(reading, node, name, file)
        yield Job(name, file, VLLM, "vllm-recipe", reading)


def _options(reading: Reading, items: list[Node], file: str) -> None:
    found, _ = options([Word(item.text or "", item.line) for item in items if isinstance(item, Scalar)], file)
    for entry in found:
        take(reading, entry, meaning_of(entry.key, KEYS))


def _say(reading: Reading, table: Node | None, key: str, fact: str, shown: str, file: str) -> bool:
    text = text_at(table, key)
    if text and isinstance(table, Mapped):
        take(reading, Entry(shown, text, table.lines.get(key, table.line), file), fact)
    return bool(text)


def _degree(reading: Reading, node: Node, name: str, file: str) -> None:
    """--tensor-parallel-size: a variant's, else the first strategy's that says one, else whatever the reader chooses."""
    if "tp" in reading.facts or _say(reading, at(node, "variants", name), "tp", "tp", f"variants.{name}.tp", file):
        return
    first = text_at(node, "default_strategy") or next(
        (item.text or "" for item in rows_at(node, "compatible_strategies") if isinstance(item, Scalar)), ""
    )
    if _say(reading, at(node, "strategy_overrides", first), "tp", "tp", f"strategy_overrides.{first}.tp", file):
        return
    strategies = at(node, "compatible_strategies")
    entry = Entry("compatible_strategies", first, strategies.line if strategies else node.line, file)
    what = "how many GPUs share the model is chosen when the recipe is rendered"
    reading.imported.append(Imported(entry, unknown=what, matters=True, about="tp"))


def _rest(reading: Reading, node: Node, name: str, file: str) -> None:
    """What else the file says: pages and other variants are idle, options of some hardware are told."""
    own = f"variants.{name}."
    said = {row.entry.line for row in reading.imported}
    for entry in entries(node, file):
        place = entry.key.partition("[")[0]
        if place.startswith("features.") or entry.line in said or place.endswith((".base_args", f"{own}extra_args")):
            continue
        elsewhere = place.startswith(("hardware_overrides.", "strategy_overrides.", f"{own}hardware_overrides."))
        told = elsewhere and entry.value and place.endswith(("args", ".tp"))
        take(reading, entry, ELSEWHERE if told else ABOUT)
