"""Keys of `infer` under speed.*: figures of the roofline, with the figures that each is made of."""

from typing import Any

from memcalc.estimates.explanation import Explanation, follows, given, of_figure, summed
from memcalc.estimates.lines import Figure
from memcalc.estimates.serving.roofline import Roofline
from memcalc.formulas.formula import ASSUMED
from memcalc.formulas.roofline import LINK, MBU, MFU
from memcalc.sizing.explaining.keys import Key
from memcalc.sizing.explaining.serving_time import answers, time_key
from memcalc.sizing.explaining.shared import gpu_fact, option
from memcalc.sizing.serving import SizedServing

# Inputs of a figure that are figures of the same pass, and those of the whole roofline.
OF_PASS = {"seconds": "seconds", "compute": "compute", "memory": "memory", "link": "link", "bytes_moved": "bytes moved"}
SHARES = {"mfu": ("efficiency/compute", MFU), "mbu": ("efficiency/memory", MBU), "efficiency": ("efficiency/link", LINK)}
SHARE_OPTIONS = {"mfu": "mfu", "mbu": "mbu", "efficiency": "link_efficiency"}
COUNTS = {
    "flops": "2 FLOP a multiply-add of every block (memcalc budget MODEL --explain flops.architecture.decode_per_token)",
    "cache": "keys and values of one sequence",
    "state": "recurrent states of one sequence",
    "tokens": "tokens of the pass",
    "sequences": "sequences that a pipeline stage works on at once",
    "ranks": "GPUs that share a layer: --tp, or --ep for experts",
    "per_sequence": "bytes that each sequence adds to a step: its cache, and its state read and written",
}


def roofline_of(a: SizedServing) -> Roofline:
    """What speed.* comes from; its keys are null where there is none."""
    found = a.speed.roofline if a.speed else None
    assert found is not None
    return found


def of_speed(a: SizedServing, found: Roofline, entry: Figure, path: str = "") -> Explanation:
    """A figure with the figures that it is made of."""
    parts = [_input(a, found, entry, name, value) for name, value in entry.inputs.items()]
    return of_figure(entry, path, *parts)


def _input(a: SizedServing, found: Roofline, entry: Figure, name: str, value: Any) -> Explanation:
    prefix = entry.path.partition("/")[0]
    by_path = {figure.path: figure for figure in found.figures}
    if name in SHARES:
        return _share(a, name, value)
    inner = by_path.get(f"{prefix}/{OF_PASS.get(name, '')}")
    if inner and inner.value == value and inner is not entry:
        return of_speed(a, found, inner).named(name)
    if name == "bytes_sent":
        sent = (found.prefill if prefix == "prefill" and found.prefill else found.decode).sent
        return summed(name, [of_figure(figure) for figure in sent])
    if name == "weights":
        experts = [of_figure(figure) for figure in found.figures if figure.path.startswith(f"{prefix}/experts read")]
        if sum(part.value for part in experts) <= value and prefix in ("prefill", "decode") and "bytes moved" in entry.path:
            rest = value - sum(part.value for part in experts)
            read = given(
                "weights of every pass", rest, "stored bytes on a rank, without look-up tables and routed experts", "B"
            )
            return summed(name, [read, *experts])
    assert a.gpu
    if name == "peak" and found.compute_format:
        return gpu_fact(a.gpu, name, value, f"peak.{found.compute_format}", "FLOP/s")
    if name == "bandwidth":
        field = "bandwidth" if not entry.path.endswith("/link") else "scale_up_bandwidth"
        field = "pcie_bandwidth" if field != "bandwidth" and not a.gpu.scale_up_bandwidth else field
        return gpu_fact(a.gpu, name, value, field, "B/s")
    return given(name, value, COUNTS.get(name, f"of the model and its layout, for {entry.path}"))


def _share(a: SizedServing, name: str, value: float) -> Explanation:
    word, (_, default) = SHARE_OPTIONS[name], SHARES[name]
    if word in a.efficiency:
        return given(name, value, f"given by {option(word)}", "share")
    return given(name, value, default.note, "share", ASSUMED)


def speed_key(a: SizedServing, key: Key) -> Explanation:
    """speed.*: what the law answers, and figures of the roofline under the names that the document gives them."""
    if answers(a, key):
        return time_key(a, key)
    found = roofline_of(a)
    steps = key.steps[1:]
    plain: dict[str, tuple[str, str]] = {
        "prompt": ("tokens", "--context less --max-new-tokens"),
        "context": ("tokens", "--context: decode at the full context"),
        "batch": ("sequences", "--batch, times --samples and --beams"),
        "compute_bound_batch": ("sequences", "the fewest sequences whose decode step computes longer than it reads"),
    }
    if steps[0] in plain and len(steps) == 1:
        unit, source = plain[steps[0]]
        if steps[0] == "compute_bound_batch" and found.crossing:
            crossing = of_speed(a, found, found.crossing)
            return follows(key.path, key.value, unit, f"{source}: beyond {crossing.path}", crossing)
        return given(key.path, key.value, source, unit)
    if steps[-1] == "bytes_sent":
        sent = (found.prefill if steps[0] == "prefill" and found.prefill else found.decode).sent
        return summed(key.path, [of_figure(entry) for entry in sent])
    shares = {"mfu": "mfu", "mbu": "mbu", "link_efficiency": "efficiency"}
    if steps[0] in shares:
        return _share(a, shares[steps[0]], key.value).named(key.path)
    return of_speed(a, found, _figure(found, steps), key.path)


NAMES = {
    "prefill_seconds": "prefill/seconds",
    "prefill_tokens_per_second": "prefill/tokens a second",
    "decode_seconds": "decode/seconds",
    "decode_tokens_per_second": "decode/tokens a second",
    "decode_tokens_per_second_per_sequence": "decode/tokens a second and sequence",
    "arithmetic_intensity": "decode/arithmetic intensity",
    "ridge_point": "ridge point",
    "compute_seconds": "compute",
    "memory_seconds": "memory",
    "link_seconds": "link",
    "seconds_without_overlap": "seconds without overlap",
    "bytes_moved": "bytes moved",
}


def _figure(found: Roofline, steps: tuple[str, ...]) -> Figure:
    path = "/".join(NAMES.get(step, step) for step in steps)
    return next(entry for entry in found.figures if entry.path == path)


def bound_key(a: SizedServing, key: Key) -> Explanation:
    """What bounds a pass: the longest of its three times."""
    found = roofline_of(a)
    entry = found.prefill if key.last == "prefill_bound" and found.prefill else found.decode
    return of_speed(a, found, entry.seconds, key.path)._replace(value=key.value, unit="")


def speed_line(a: SizedServing, key: Key) -> Explanation:
    found = roofline_of(a)
    whole = of_speed(a, found, found.figures[key.number()])
    if key.last == "value":
        return whole.named(key.path)
    return next(part for part in whole.parts if part.path == key.last).named(key.path)
