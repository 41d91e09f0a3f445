"""What a plan and a comparison take of launch files: the run or the server, without what is sought or varied."""

from collections.abc import Mapping, Sequence
from typing import Any

from memcalc.estimates.planning.accepts import ENGINES
from memcalc.estimates.planning.space import SPACE
from memcalc.sizing.importing import RIVALS, FromFiles, asked_from, option_of
from memcalc.sizing.planning_layouts import LAID_OUT

# Settings of a file's layout, which a plan looks for itself: those of the space, and what goes with them.
OF_LAYOUTS = {
    "train": {*SPACE, *LAID_OUT} - {"gpus", "global_batch", "count_embedding", "count_loss"},
    "infer": {"tp", "pp", "dp", "ep"},
}
BATCH = ("gpus", "tp", "pp", "cp", "micro_batch", "grad_accum")


def planned_from(
    command: str, files: Sequence[str], model: Any, gpu: str | None, said: Mapping[str, Any], varied: Sequence[str] = ()
) -> FromFiles:
    """MODEL, GPU and settings of a plan: of the files all but their layout, which is sought; what was said wins and stays.

    A file's GPUs are how many there are; a step keeps as many sequences as the micro-batches of all of them come to.
    """
    sought = OF_LAYOUTS[command] | _rivals(SPACE if command == "train" else ())
    unasked = {*BATCH, *varied} if command == "train" else {*varied}
    asked = asked_from(command, files, model, gpu, said, unasked=unasked)
    kept = {name: value for name, value in asked.settings.items() if name not in sought or _was(said, name)}
    left = {name: value for name, value in asked.settings.items() if name not in kept}
    if command == "train":
        batch = _global_batch({name: setting.value for name, setting in asked.found.question.settings.items()})
        if batch and not _was(said, "global_batch"):
            kept["global_batch"] = batch
        if kept.get("engine") not in (None, "any", *ENGINES) and not _was(said, "engine"):
            left["engine"] = kept.pop("engine")
    elif "gpus" not in kept and (held := _copies(asked.settings)):
        kept["gpus"] = held
    kept = {name: value for name, value in kept.items() if name not in varied}
    return asked._replace(settings=kept, found=_told(asked, left))


def varied_from(
    command: str,
    files: Sequence[str],
    model: Any,
    gpu: str | None,
    said: Mapping[str, Any],
    varied: Mapping[str, Sequence[Any]],
) -> FromFiles:
    """MODEL, GPU and settings of a comparison: those of the files, without what is varied and what says the same."""
    first = {name: values[0] for name, values in varied.items() if name not in ("model", "gpu") and values}
    asked = asked_from(
        command, files, varied["model"][0] if varied.get("model") else model, gpu, {**said, **first}
    )  # fmt: skip
    settings = {name: value for name, value in asked.settings.items() if name not in varied}
    return asked._replace(
        model=None if "model" in varied else asked.model, gpu=None if "gpu" in varied else asked.gpu, settings=settings
    )


def _was(said: Mapping[str, Any], name: str) -> bool:
    return said.get(name) not in (None, ())


def _rivals(names: Sequence[str]) -> set[str]:
    """What says the same as one of some settings, in other words."""
    return {each for rivals in RIVALS if rivals & {*names} for each in rivals} - {"tokens_per_batch", "global_batch"}


def _global_batch(settings: Mapping[str, Any]) -> int | None:
    """Sequences of an optimizer step that files say, or that their micro-batch, accumulation and GPUs come to; None: open."""
    if settings.get("global_batch"):
        return int(settings["global_batch"])
    if settings.get("micro_batch") is None or settings.get("gpus") is None:
        return None
    copies, rest = divmod(settings["gpus"], settings.get("tp", 1) * settings.get("pp", 1) * settings.get("cp", 1))
    return None if rest or not copies else int(settings["micro_batch"] * settings.get("grad_accum", 1) * copies)


def _copies(settings: Mapping[str, Any]) -> int | None:
    """GPUs of a server's layout; None where the file says none."""
    if not {"tp", "pp", "dp"} & settings.keys():
        return None
    return int(settings.get("tp", 1) * settings.get("pp", 1) * settings.get("dp", 1))


def _told(asked: FromFiles, left: Mapping[str, Any]) -> Any:
    """The files with a word about the layout of theirs that is not kept."""
    if not left:
        return asked.found
    words = ", ".join(f"{option_of(name)} {value}" for name, value in left.items())
    note = f"their layout is not kept but sought anew ({words:.300}); what is said as an option stays"
    question = asked.found.question
    return asked.found._replace(question=question._replace(assumed=(*question.assumed, note)))
