"""Launch files and the facts that must come out of each: how many do, and which do not.

    python benchmarks/launch_examples.py                                 the examples of tests/reference/launch_examples
    python benchmarks/launch_examples.py --corpus FILE --folder DIR      files by repository, commit and path, kept in DIR

A corpus is JSON with `files[] {repo, path, kind, expect}`; a file is looked for as DIR/OWNER+NAME/PATH. A fact counts as right
where it has the value that is expected, as written or in memcalc's own word for it.
"""

import argparse
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from memcalc.errors import MemcalcError
from memcalc.formulas.optimizer_table import OPTIMIZERS
from memcalc.sizing.importing import LaunchedJob, launched
from memcalc.specs.words import meant

EXAMPLES = Path(__file__).parent.parent / "tests" / "reference" / "launch_examples"
# Words of the truth tables that say the same
SAME = {"fsdp": "fsdp1", "sfttrainer": "sft", "no": "no", "flash_attn": "flash", "offload": "full",
    "torch.optim.adamw": "adamw",
        "bitsandbytes.optim.pagedadamw8bit": "paged-adamw-8bit", "bitsandbytes.optim.pagedadamw": "paged-adamw"}  # fmt: skip
TARGETS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "output": "o_proj"}


class Scored(NamedTuple):
    """A file: facts that are right and wrong (name, expected, found), or why it was refused."""

    name: str
    kind: str
    right: int
    wrong: tuple[tuple[str, Any, Any], ...]
    refused: str = ""


def facts_of(found: LaunchedJob) -> dict[str, Any]:
    """Facts of a job by name, with what its settings come to where the two have one name."""
    return {name: fact.value for name, fact in found.job.reading.facts.items()}


def agrees(name: str, expected: Any, found: LaunchedJob) -> bool:
    """Whether an expected fact came out: as written, in our word, or as the setting it became."""
    facts, settings = facts_of(found), found.question.settings
    values = [facts.get(name), *(settings[name].value for _ in (0,) if name in settings)]
    entry = found.job.reading.facts.get(name)
    if entry and entry.entry:
        values.append(entry.entry.value)
    values += [facts.get(other) for other in ALSO.get(name, ())]
    if name == "model":
        values += [found.question.model, *(facts.get(other) for other in ("hf_checkpoint", "model_file"))]
    return any(_same(name, expected, value) for value in values if value is not None)


# A fact that the truth tables call by another of our names, where a tool has but one
ALSO = {
    "sharding": ("fsdp",), "processes": ("gpus",), "train_batch": ("global_batch",), "sp": ("sequence_parallel", "cp"),
    "chunked_prefill": ("max_batched_tokens",), "rollout_tp": ("tp",), "dtype": ("precision",),
    "precision": ("dtype", "model_dtype"),
    "model_component": ("model",), "dp": ("replicas",), "algorithm": ("algorithm_cli", "advantage_estimator"), "compile": (),
    "distributed_optimizer": (), "servers_in_file": (),
}  # fmt: skip


def _same(name: str, expected: Any, value: Any) -> bool:
    if isinstance(expected, list):
        listed = list(value) if isinstance(value, (list, tuple)) else [value]
        return [_word(name, each) for each in expected] == [_word(name, each) for each in listed]
    if isinstance(expected, bool):
        return str(value).lower() == str(expected).lower() or value == expected
    if isinstance(expected, (int, float)) and isinstance(value, (int, float)):
        return expected == value
    if isinstance(value, (list, tuple)):
        value = value[0] if len(value) == 1 else " ".join(map(str, value))
    return _word(name, expected) == _word(name, value)


def _word(name: str, value: Any) -> str:
    text = str(value).strip()
    plain = SAME.get(text.lower(), text.lower())
    if name == "script":
        return plain.rpartition("/")[2]
    if name == "optimizer":
        return str(meant("optimizer", plain, tuple(OPTIMIZERS)))
    if name == "attention":
        return "flash" if re.search(r"flash|fa[23]", plain) else plain
    if name == "precision":
        plain = {"bfloat16": "bf16", "float16": "fp16"}.get(plain, plain)
        return plain.removesuffix("-mixed") if plain != "fp8-mixed" else plain
    if name == "lora_targets":
        return TARGETS.get(plain, plain)
    return plain.replace("_", "-")


def score(name: str, kind: str, expect: dict[str, Any], path: Path) -> Scored:
    """One file against what must come out of it."""
    try:
        jobs = launched(str(path))
    except MemcalcError as error:
        return Scored(name, kind, 0, (), str(error))
    right, wrong = 0, []
    for fact, expected in expect.items():
        if fact == "services":
            for service, inner in expected.items():
                found = [job for job in jobs if job.job.name == service]
                scored = [agrees(each, value, found[0]) for each, value in inner.items()] if found else [False]
                right += sum(scored)
                wrong += [
                    (f"{service}.{each}", value, None)
                    for (each, value), fine in zip(inner.items(), scored, strict=False)
                    if not fine
                ]
        elif fact in ("models_in_file", "servers_in_file"):
            right += len(jobs) == expected
            wrong += [(fact, expected, len(jobs))] if len(jobs) != expected else []
        elif agrees(fact, expected, jobs[0]):
            right += 1
        else:
            wrong.append((fact, expected, facts_of(jobs[0]).get(fact)))
    return Scored(name, kind, right, tuple(wrong))


def examples(folder: Path = EXAMPLES) -> Iterator[Scored]:
    table = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["files"]
    os.chdir(folder)
    for name, row in table.items():
        yield score(name, row["kind"], row["expect"], Path(name))


def corpus(table: Path, folder: Path) -> Iterator[Scored]:
    for row in json.loads(table.read_text(encoding="utf-8"))["files"]:
        path = folder / row["repo"].replace("/", "+") / row["path"]
        if path.is_file():
            yield score(f"{row['repo']}/{row['path']}", row["kind"], row["expect"], path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--wrong", action="store_true", help="every fact that is not right")
    parser.add_argument("--kind", default="", help="of one kind alone")
    asked = parser.parse_args()
    scored = [*(corpus(asked.corpus.resolve(), asked.folder.resolve()) if asked.corpus else examples())]
    scored = [each for each in scored if asked.kind in each.kind]
    kinds = Counter(each.kind for each in scored)
    print(f"{'kind':24} files  all right  refused  facts right")
    for kind in sorted(kinds):
        _line(kind, [each for each in scored if each.kind == kind])
    _line("all", scored)
    for each in scored:
        if each.refused:
            print(f"refused: {each.refused[:300]}")
        elif each.wrong and asked.wrong:
            print(f"{each.kind} {each.name}")
            for fact, expected, found in each.wrong:
                print(f"    {fact}: {expected!r} expected, {found!r} found")


def _line(kind: str, scored: list[Scored]) -> None:
    whole = sum(not each.wrong and not each.refused for each in scored)
    right, wrong = sum(each.right for each in scored), sum(len(each.wrong) for each in scored)
    refused = sum(bool(each.refused) for each in scored)
    print(f"{kind:24} {len(scored):5} {whole:10} {refused:8} {right:7} of {right + wrong}")


if __name__ == "__main__":
    main()
