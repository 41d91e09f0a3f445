"""Every key under `time`: parts that add up, what follows from them, and the law that they rest on."""

from memcalc.estimates.explanation import Explanation, follows, given, summed
from memcalc.estimates.step_time.step import PARTS, StepTime
from memcalc.sizing.explaining.keys import Key, Make, Table, stated
from memcalc.sizing.training import SizedTraining

WHAT = {
    "forward": "products, attention and what is bound by memory, of all micro-batches on the slowest stage",
    "backward": "gradients of inputs and of trained weights, each product in its own shape",
    "recompute": "forwards that run again",
    "optimizer": "gradients read, states and parameters read and written",
    "exposed_communication": "messages that nothing hides, and what hidden ones take from computing",
    "bubble": "stages that wait for others: pipeline_seconds",
    "launch": "the host's time to launch kernels, beyond the device's to run them",
}


def _step(a: SizedTraining) -> StepTime:
    assert a.time is not None  # the document has the key
    return a.time


def _part(a: SizedTraining, name: str, path: str) -> Explanation:
    step = _step(a)
    value = step.parts[PARTS.index(name)]
    return given(path, value, f"{WHAT[name]}; {a.timed.source}", "s", step.certainty)


def _seconds(a: SizedTraining, path: str = "step_seconds") -> Explanation:
    return summed(path, [_part(a, name, name) for name in PARTS], "s", why="the parts of a step")


def _end(name: str) -> Make:
    def make(a: SizedTraining, key: Key) -> Explanation:
        step = _step(a)
        share = getattr(step.spread, name)
        why = f"four fifths of {step.spread.groups} groups of published runs, {step.spread.kind}; never below the roofline"
        return follows(
            key.path, key.value, "s", "max(step_seconds * (1 + share), roofline)", _seconds(a),
            inputs={"share": share, "roofline": step.roofline if name == "low" else 0.0}, source=why,
        )  # fmt: skip

    return make


def _rate(per_gpu: bool) -> Make:
    def make(a: SizedTraining, key: Key) -> Explanation:
        step = _step(a)
        inputs = {"tokens": step.tokens} | ({"gpus": step.gpus} if per_gpu else {})
        formula = "tokens / step_seconds / gpus" if per_gpu else "tokens / step_seconds"
        return follows(key.path, key.value, "1/s", formula, _seconds(a), inputs=inputs)

    return make


def _utilisation(which: str) -> Make:
    def make(a: SizedTraining, key: Key) -> Explanation:
        step = _step(a)
        inputs = {"flops": getattr(step, which), "gpus": step.gpus, "peak": step.peak}
        source = f"attention over unmasked pairs; peak: dense {step.peak_format} of the accelerator"
        return follows(
            key.path, key.value, "", "flops / (step_seconds * gpus * peak)", _seconds(a), inputs=inputs, source=source
        )

    return make


def _whole(name: str) -> Make:
    def make(a: SizedTraining, key: Key) -> Explanation:
        step, run = _step(a), a.timed.run
        assert run is not None
        inputs = {"tokens": run.tokens, "per_step": step.tokens}
        hours = "tokens / per_step * step_seconds / 3600 * gpus"
        if name == "days":
            return follows(key.path, key.value, "day", "tokens / per_step * step_seconds / 86400", _seconds(a), inputs=inputs)
        inputs["gpus"] = step.gpus
        if name == "gpu_hours":
            return follows(key.path, key.value, "h", hours, _seconds(a), inputs=inputs)
        price = f"{run.range.as_of}: {run.range.where}" if run.range else "given by --price"
        return follows(
            key.path, key.value, "USD", f"{hours} * price", _seconds(a), inputs=inputs | {"price": run.price}, source=price
        )

    return make


ROWS: Table = {
    "time.step_seconds": lambda a, key: _seconds(a, key.path),
    "time.step_seconds_low": _end("low"),
    "time.step_seconds_high": _end("high"),
    "time.tokens_per_second": _rate(False),
    "time.tokens_per_second_per_gpu": _rate(True),
    "time.tokens_per_step": stated("micro-batches × data-parallel ranks × tokens of each"),
    "time.mfu": _utilisation("model_flops"),
    "time.hfu": _utilisation("hardware_flops"),
    "time.parts.*": lambda a, key: _part(a, key.stars[0], key.path),
    "time.tokens": stated("given by --tokens, or --dataset-samples × --seq-len × --epochs"),
    **{f"time.{name}": _whole(name) for name in ("days", "gpu_hours", "cost_usd")},
}
