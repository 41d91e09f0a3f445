"""`memcalc verify`: an engine's log, or a training loop's, beside what is predicted of the same run."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memcalc.errors import InputError
from memcalc.estimates.verifying import UNITS, LogSetting, LogVerification, Verified
from memcalc.formulas.serving_engines import numbers
from memcalc.readers.logs.patterns import EVERY_RANK, OLLAMA, TRAINING, VLLM, release_of
from memcalc.readers.logs.read import LogLine, LogReading, read_log
from memcalc.sizing.answer import Reported
from memcalc.sizing.invocation import Invocation
from memcalc.sizing.subjects import AnyAccelerator
from memcalc.specs.spec import SpecError

if TYPE_CHECKING:
    from memcalc.report.report import Report
    from memcalc.sizing.serving import SizedServing
    from memcalc.sizing.training import SizedTraining

# What predicts each quantity of a log: of serving, and of training.
SERVING: Mapping[str, Callable[["SizedServing"], float | None]] = {
    "weights": lambda found: found.weights,
    "activations": lambda found: found.activations,
    "compute_buffer": lambda found: found.activations,
    "kv_cache": lambda found: found.kv_cache + found.state,
    "cache": lambda found: found.requests_there.memory if found.requests_there else None,
    "kv_tokens": lambda found: found.requests_there.kv_tokens if found.requests_there else None,
    "max_concurrency": lambda found: found.requests_there.max_concurrency if found.requests_there else None,
    "device": lambda found: found.device_there,
}
TRAINED: Mapping[str, Callable[["SizedTraining"], float | None]] = {
    "peak": lambda found: found.peak, "reserved": lambda found: found.reserved, "device": lambda found: found.device,
}  # fmt: skip
WHOLE = ("context", "tp", "pp", "dp", "batch", "block_size", "max_batched_tokens", "max_sequences", "gpu_layers",
         "slots", "draft_tokens", "kv_cache_memory", "lora_adapters", "lora_rank", "max_graph_batch",
         "images_per_prompt")  # fmt: skip
NUMBERS = {**dict.fromkeys(WHOLE, int), "gpu_memory_utilization": float}
LENGTH = re.compile(r"Maximum concurrency for ([\d,]+) tokens")
ALIKE = 0.02  # of two counts: the concurrency has two decimals
# A word in the name, of a checkpoint that the engine calls a mixture (vLLM's modelopt_mixed) → what NVIDIA's of that name are.
MIXED = {"nvfp4": "nvfp4-mlp-fp8-attn"}
QUANTISED = {"fp8": "fp8", "awq": "int4-g128", "awq_marlin": "int4-g128", "gptq": "gptq-int4-g128",
             "gptq_marlin": "gptq-int4-g128", "auto_round": "gptq-int4-g128", "auto-round": "gptq-int4-g128",
             "modelopt_fp4": "nvfp4", "mxfp4": "mxfp4", "bitsandbytes": "nf4-dq"}  # fmt: skip


class SizedLog(Reported):
    """A log beside its prediction, as the command line shows it."""

    def __init__(self, found: LogVerification, sized: Any = None, model: str = "", presets: Sequence[str] = ()) -> None:
        self.found, self.sized, self._model, self._presets = found, sized, model, tuple(presets)

    def save(self, folder: str | os.PathLike[str]) -> str:
        """Writes the numbers and settings as a row of the folder's measured/, which `memcalc validate --presets` reads back.
        Returns its path."""
        from memcalc.sizing.saving import save_served, save_trained
        from memcalc.sizing.serving import SizedServing

        save = save_served if isinstance(self.sized, SizedServing) else save_trained
        return save(self.found, self.sized, self._model, self._presets, os.fspath(folder))

    @property
    def rows(self) -> tuple[Verified, ...]:
        return self.found.rows

    def report(self) -> "Report":
        from memcalc.report.verifying import report

        return report(self.found)


def verify(
    log: str | os.PathLike[str],
    model: str | None = None,
    gpu: AnyAccelerator = None,
    *,
    tick: Callable[[int], None] = lambda lines: None,
    presets: Sequence[str] = (),
    **settings: Any,
) -> SizedLog:
    """Every number of a log that memcalc predicts, beside the prediction. `model`, `gpu` and `settings` (of `size_serving`,
    or of `size_training` for a training log) go before what the log says. Raises InputError where the log says too little."""
    path = os.fspath(log)
    read = read_log(path, tick)
    program = read.programs[0]
    if program in TRAINING and all(quantity in TRAINED for quantity in read.measured):
        return _trained(path, program, read, model, gpu, presets, settings)
    return _served(path, program, read, model, gpu, presets, settings)


def _served(
    path: str, program: str, read: LogReading, model: str | None, gpu: AnyAccelerator, presets: Sequence[str],
    settings: dict[str, Any],
) -> SizedLog:  # fmt: skip
    from memcalc.sizing.serving import size_serving

    called, stored = _called(read.settings.get("model"))
    named = model or called
    if named is None:
        raise InputError("no line says which model it was; give MODEL", place=path)
    if gpu is None:
        raise SpecError("a log does not say what it ran on; add a gpu", "gpu")
    said, sources = _settings(program, read, settings, "" if os.sep in (model or "") or os.path.exists(named) else stored)
    found = size_serving(named, gpu, presets=presets, **said)
    by = {**SERVING, "kv_tokens": _tokens_said(read, found)} if program == VLLM else SERVING
    rows = tuple(_row(name, each, by, found) for name, each in read.measured.items())
    command = str(Invocation("infer", named, gpu, tuple(presets), said))
    verified = LogVerification(path, program, command, rows, sources, tuple(found.document.get("assumptions", ())))
    return SizedLog(verified, found, named, presets)


def _trained(
    path: str, program: str, read: LogReading, model: str | None, gpu: AnyAccelerator, presets: Sequence[str],
    settings: dict[str, Any],
) -> SizedLog:  # fmt: skip
    from memcalc.sizing.training import size_training

    if model is None:
        raise InputError("a training log does not say how it was run; give MODEL, and its settings by --set", place=path)
    if program in ("megatron", "torchtitan"):
        settings.setdefault("engine", program)
    found = size_training(model, gpu, presets=presets, **settings)
    rows = tuple(_row(name, each, TRAINED, found) for name, each in read.measured.items())
    command = str(Invocation("train", model, gpu, tuple(presets), settings))
    sources = tuple(LogSetting(name, value, "--set") for name, value in settings.items())
    return SizedLog(LogVerification(path, program, command, rows, sources, tuple(found.assumptions)), found, model, presets)


def _release(read: LogReading) -> LogLine | None:
    """The release whose habits the log shows: its version's, or a later one's that a line says it has."""
    said = read.settings.get("version")
    found = said._replace(value=release_of(str(said.value))) if said and read.programs[0] == VLLM else said
    shown = read.settings.get("habits")
    return shown if shown and (found is None or numbers(str(found.value)) < numbers(str(shown.value))) else found


def _tokens_said(read: LogReading, found: "SizedServing") -> Callable[[Any], float | None]:
    """What vLLM's "GPU KV cache size" counts: in some versions the tokens of as many requests as fit (its maximum concurrency
    times the length of one, pull 40694), in others those that one of its groups of layers could have. The log's own two
    numbers tell which; where they are of the other kind than the release's, tokens that cannot be compared are left out."""
    size, at_once = read.measured.get("kv_tokens"), read.measured.get("max_concurrency")
    length = LENGTH.search(at_once.text) if at_once else None
    there = found.requests_there
    if not (size and at_once and length and there and there.max_concurrency and there.kv_tokens):
        return SERVING["kv_tokens"]
    tokens = int(length[1].replace(",", ""))
    of_requests = there.max_concurrency * tokens
    alike = abs(of_requests / there.kv_tokens - 1) < ALIKE  # as of a model with one group of layers
    whole = abs(float(size.value) / (float(at_once.value) * tokens) - 1) < ALIKE
    if whole != alike:
        return lambda sized: of_requests if whole else None
    return SERVING["kv_tokens"]


def _row(name: str, read: LogLine, by: Mapping[str, Callable[[Any], float | None]], found: Any) -> Verified:
    predicted = by[name](found) if name in by else None
    return Verified(name, UNITS.get(name, "B"), float(read.value), predicted, read.line, read.text)


def _called(read: LogLine | None) -> tuple[str | None, str]:
    """The model's name, of a path its last part, and how its weights are stored where the name says so, "" else."""
    from memcalc.readers.names import foreign_name, stored_word, weights_word

    if read is None:
        return None, ""
    text = str(read.value).rstrip("/")
    name = os.path.basename(text) if text.startswith(("/", "~", ".")) else text
    stored = stored_word(foreign_name(name) or name)
    word = weights_word(*stored) if stored else ""
    return (stored[1], word) if stored and word else (name, "")


def _is_itself(read: LogReading) -> bool:
    """Whether what SGLang calls EAGLE is the model's own prediction layers: no draft is named, or the model itself."""
    path, model = read.settings.get("draft_path"), read.settings.get("model")
    return path is None or (model is not None and path.value == model.value)


def _weights(read: LogReading, stored: str) -> LogSetting | None:
    """How weights are stored: as the model's name says, or the engine's word for it."""
    if stored:
        word = MIXED.get(stored, stored) if "mixture" in read.settings else stored
        return LogSetting("weights", word, f"line {read.settings['model'].line}")
    quantised = read.settings.get("quantization")
    return quantised and LogSetting("weights", QUANTISED.get(str(quantised.value), "checkpoint"), f"line {quantised.line}")


def _settings(
    program: str, read: LogReading, said: dict[str, Any], stored: str = ""
) -> tuple[dict[str, Any], tuple[LogSetting, ...]]:
    """How it was run: what the user says, else what the log does."""
    out: dict[str, Any] = {"engine": program}
    sources = [LogSetting("engine", program, "the log's own lines")]
    if by := _release(read):
        out["engine"] = f"{program}@{by.value}"
        sources[0] = LogSetting("engine", out["engine"], f"line {by.line}")
    for name, each in read.settings.items():
        if name in ("version", "habits"):
            continue
        if name in ("model", "quantization", "mixture", "draft_path"):
            continue
        value = NUMBERS[name](float(str(each.value))) if name in NUMBERS else True if each.value == "true" else each.value
        out[name] = value
        sources.append(LogSetting(name, value, f"line {each.line}"))
    if out.get("draft") == "eagle" and _is_itself(read):
        out["draft"] = "mtp"
        sources = [each._replace(value="mtp") if each.name == "draft" else each for each in sources]
    if "draft" not in out | said:
        out.pop("draft_tokens", None)  # of a draft that no word names
    if out.get("ep") == EVERY_RANK:
        out["ep"] = out.get("tp", 1) * out.pop("dp", 1)
        sources = [each._replace(value=out["ep"]) if each.name == "ep" else each for each in sources]
    if "slots" not in out:
        out.pop("unified", None)  # one sequence has the pool to itself
    if stored or "quantization" in read.settings:
        sources = [each for each in sources if each.name != "weights"]  # the dtype of what is not quantised
    if weights := _weights(read, stored):
        out["weights"] = weights.value
        sources.append(weights)
    if program == OLLAMA and out.get("batch", 1) > 1 and "context" in out:  # written for all of them
        out["context"] //= out["batch"]
    out |= said
    sources = [each for each in sources if each.name in out]
    sources += [LogSetting(name, value, "--set") for name, value in said.items()]
    return out, tuple(sources)
