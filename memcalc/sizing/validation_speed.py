"""Every published serving speed beside what memcalc says of that deployment, sized as any other."""

from typing import Any

from memcalc.caches import cached
from memcalc.errors import InputError
from memcalc.estimates.serving.speed import Speed
from memcalc.estimates.serving.timed import ServedTime
from memcalc.estimates.validation import Skipped
from memcalc.estimates.validation_speed import SpeedResidual, SpeedValidation
from memcalc.formulas.serving_engines import SERVING_ENGINES, numbers, release
from memcalc.formulas.timing.llama_cpp import kernels_of
from memcalc.readers.timed import TimedRow, timed_rows
from memcalc.sizing.serving import SizedServing, size_serving
from memcalc.sizing.subjects import Subjects

LONGEST_BATCH = 2048  # requests at most where the engine chose their number
UNSAID = 64  # tokens of an answer where a row is of a prompt alone


@cached(4)
def validate_speed(engine: str = "") -> SpeedValidation:
    """Predict all rows of presets/speed, or those of one engine."""
    residuals: list[SpeedResidual] = []
    skipped: list[Skipped] = []
    ask = _Deployments()
    for row in timed_rows():
        if engine and row.engine != engine:
            continue
        reason = row.unpredictable
        if not reason:
            try:
                residuals.append(_residual(row, ask))
                continue
            except InputError as error:
                reason = str(error)
        skipped.append(Skipped(row.id, row.grade, reason))
    return SpeedValidation(tuple(residuals), tuple(skipped))


class _Deployments:
    """Deployments as they are sized: what rows have in common is read once, and two quantities of one deployment (the first
    token and those after it) are two rows that follow each other."""

    def __init__(self) -> None:
        self.subjects = Subjects()
        self._last: tuple[dict[str, Any], SizedServing] | None = None

    def sized(self, model: str, gpu: str, settings: dict[str, Any]) -> SizedServing:
        asked = {**settings, "model": model, "gpu": gpu}
        if self._last is None or self._last[0] != asked:
            machine = gpu if "+" in gpu else self.subjects.accelerator(gpu)
            self._last = asked, size_serving(self.subjects.model(model), machine, **settings)
        return self._last[1]


def _residual(row: TimedRow, ask: _Deployments) -> SpeedResidual:
    answer = sized = _sized(row, ask)
    speed = sized.speed
    assert speed is not None  # a GPU is named
    if speed.timed is None:
        raise InputError(speed.untimed or speed.reason)
    assert answer.model.architecture is not None
    kind = "experts" if any(line.group == "experts" for line in sized.lines) else "dense"
    roof = _by_roofline(row, speed, sized)
    return SpeedResidual(row.id, row.engine, row.gpu, row.model, kind, _release(row), row.quantity, row.grade, row.value,
                         _by_law(row, speed.timed, sized), roof)  # fmt: skip


def _release(row: TimedRow) -> str:
    """Whether memcalc describes the release that was measured."""
    if row.engine not in SERVING_ENGINES:
        return "another engine"
    if not numbers(row.version):
        return "not said"
    return "current" if release(row.engine, row.version) else "older"


def _sized(row: TimedRow, ask: _Deployments) -> SizedServing:
    engine = row.engine if row.engine in SERVING_ENGINES else None
    prompt, output = max(1, row.prompt), max(1, row.answer or UNSAID)
    settings: dict[str, Any] = {
        "engine": engine, "weights": row.weights, "kv_dtype": row.cache, "tp": row.tp, "pp": row.pp, "ep": row.ep, "dp": row.dp,
        "context": prompt + output, "max_new_tokens": output,
    }  # fmt: skip
    if engine == "llama.cpp":
        settings["flash_attention"] = "on" if kernels_of(row.version).flash else "off"
        if row.tp > 1:
            settings |= {"tp": 1, "pp": row.tp * row.pp}
    if row.step_tokens:
        settings["max_batched_tokens"] = row.step_tokens
    if engine and numbers(row.version) and release(engine, row.version):
        settings["engine_version"] = row.version
    groups = row.dp * max(1, row.ep // row.tp)
    if row.quantity in ("tpot", "ttft_load") and row.concurrency and (row.concurrency > 1 or row.quantity == "ttft_load"):
        settings["concurrency"] = row.concurrency
    elif row.concurrency:
        settings["batch"] = max(1, row.concurrency // groups)
    if row.concurrency is None:
        there = ask.sized(row.model, row.gpu, settings).requests_there
        if there is None or not there.max_batch:
            raise InputError("nothing fits, by memcalc's count")
        settings["concurrency"] = min(min(LONGEST_BATCH, there.max_batch) * groups, row.requests or LONGEST_BATCH * groups)
    return ask.sized(row.model, row.gpu, settings)


def _by_law(row: TimedRow, found: ServedTime, sized: SizedServing) -> float:
    if row.quantity == "tpot":
        return found.tpot
    if row.quantity == "decode":
        return sized.run.batch * found.groups / found.tpot
    if found.prefill is None or found.ttft is None or found.batch_seconds is None or found.requests_per_second is None:
        raise InputError(f"{row.gpu} has no published dense 16-bit peak: no time of a prompt")
    match row.quantity:
        case "ttft" | "ttft_load":
            return found.ttft
        case "prefill" if sized.run.batch > 1:  # prompts read together
            answers = max(1, row.answer or UNSAID) * found.tpot
            return sized.run.batch * found.groups * row.prompt / (found.batch_seconds - answers)
        case "prefill":
            return row.prompt / found.prefill
        case "batch":
            return sized.run.batch * found.groups * row.answer / found.batch_seconds
    rate = found.requests_per_second
    if row.requests:  # all sent at once: those in flight at the end end like a batch
        at_once = sized.run.batch * found.groups
        rate = row.requests / (max(0, row.requests - at_once) / rate + found.batch_seconds)
    return rate * row.answer


def _by_roofline(row: TimedRow, speed: Speed, sized: SizedServing) -> float | None:
    """At default shares: the sum of a step and of the prompts that are read for each."""
    found = speed.roofline
    if found is None or found.prefill is None:
        return None
    prefill, decode, batch = found.prefill.seconds.value, found.decode.seconds.value, found.batch
    groups = max(1, sized.run.ep // sized.run.tp) * sized.run.dp
    loaded = decode + prefill * batch / max(1, row.answer)
    match row.quantity:
        case "tpot":
            return loaded if row.concurrency and row.concurrency > 1 else decode
        case "ttft" | "ttft_load":
            return prefill
        case "prefill":
            return row.prompt / prefill
        case "decode":
            return batch * groups / decode
    return batch * groups / loaded
