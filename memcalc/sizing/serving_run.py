"""What was said about serving as a spec: the defaults of the model and the engine, and what needs or contradicts what."""

from collections.abc import Mapping, Sequence
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import StoredTensors
from memcalc.formulas.drafts import DraftMethod
from memcalc.formulas.serving_engines import PLAIN as PLAIN_ENGINE
from memcalc.formulas.serving_engines import SERVING_ENGINES, ServingEngine, release
from memcalc.sizing.format_defaults import with_formats
from memcalc.sizing.local_defaults import with_local_defaults
from memcalc.sizing.settings import Need, Settings, check_needs, settled
from memcalc.specs.hardware import Accelerator
from memcalc.specs.serving import MAX_BATCH, Serving
from memcalc.specs.serving_load import ServingLoad
from memcalc.specs.spec import SpecError

EFFICIENCY = ("mfu", "mbu", "link_efficiency")  # shares of the accelerator's peaks
BESIDE = ("precision", "ram", *EFFICIENCY)  # settings beside those of Serving

DEFAULT_CONTEXT = 4096  # tokens, where the engine has no default of its own

NEEDS = (
    Need(
        ("lora_rank", "sharded_adapters"),
        lambda said: bool(said.get("lora_adapters")),
        "is of LoRA adapters; add lora_adapters",
    ),
)


def serving_run(
    architecture: Architecture,
    run: Serving | None = None,
    files: StoredTensors | None = None,
    *,
    draft: DraftMethod | None = None,
    gpus: Sequence[Accelerator] = (),
    reserved: int = 0,
    **settings: Any,
) -> Serving:
    """What was said about serving as a spec, with the defaults of the model, of its `files`, of a `draft`, and of
    the engine on these `gpus`, on each of which others hold `reserved` bytes."""
    said = settled(run, settings, Serving, also=BESIDE)
    check_needs(said, NEEDS)
    with_formats(said, engine_of(said), architecture, files, gpus[0].architecture if gpus else "")
    if draft:
        said.setdefault("draft_tokens", draft.guesses)
        said["draft_method"] = draft.name
    row = engine_of(said)
    with_local_defaults(said, row, architecture, files, gpus, reserved)
    if architecture.context:
        whole = row.whole_context
        said.setdefault("context", architecture.context if whole else min(DEFAULT_CONTEXT, architecture.context))
    return Serving(**said)


def engine_of(said: Settings) -> ServingEngine:
    """The engine's row, of the release that was named; what is no engine is the spec's to refuse."""
    name, _, version = str(said.get("engine") or "").partition("@")
    if name not in SERVING_ENGINES:
        return PLAIN_ENGINE
    return release(name, version or said.get("engine_version")) or SERVING_ENGINES[name]


def with_load(settings: Settings, run: Serving | None, load: ServingLoad) -> dict[str, Any]:
    """Lengths and requests in flight are those of each sequence and of a batch, where nothing else was said of these."""
    said = settled(run, settings, Serving, also=("draft", *BESIDE))
    out = dict(settings)
    if load.input_len is not None and load.output_len is not None:
        total = load.input_len + load.output_len
        lengths = {"context": total, "max_new_tokens": load.output_len}
        out |= {name: value for name, value in lengths.items() if name not in said}
        if (said.get("context", total), said.get("max_new_tokens", load.output_len)) != (total, load.output_len):
            raise SpecError(f"{load.input_len} and {load.output_len} tokens are the context and the answer; "
                            "give lengths, or context and max_new_tokens", "input_len", "output_len")  # fmt: skip
    elif load.concurrency is not None and "max_new_tokens" not in said:
        raise SpecError("a load needs lengths: give input_len and output_len", "concurrency")
    if load.concurrency is not None and "batch" not in said:
        degrees = (said.get(name) for name in ("tp", "ep", "dp"))
        tp, ep, dp = (degree if isinstance(degree, int) and degree > 0 else 1 for degree in degrees)
        out["batch"] = min(MAX_BATCH, -(-load.concurrency // (dp * max(1, ep // tp))))
    return out


def check_meaning(architecture: Architecture, run: Serving, shares: Mapping[str, float]) -> None:
    """Raises SpecError for what says nothing of this model, or of this engine."""
    if run.images_per_prompt is not None and not any(part.images for part in architecture.parts):
        raise SpecError("of a model that reads no images, or whose rule for them is not known", "images_per_prompt")
    if shares and run.engine_row.experts_on_host:
        raise SpecError(f"is a share of a speed, and that of {run.engine_row.name} is not modelled", *EFFICIENCY)
