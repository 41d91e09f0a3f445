"""Every key of `train`: what a step holds, moment by moment, down to the tensors that autograd keeps."""

from collections.abc import Iterable, Sequence

from memcalc.estimates.explanation import (
    Explanation,
    follows,
    given,
    of_line,
    of_weights,
    summed,
)
from memcalc.estimates.lines import COMPONENTS, Line
from memcalc.estimates.placement import Tensors
from memcalc.estimates.training.adapters import upcast
from memcalc.estimates.training.estimate import Alive, TrainingEstimate
from memcalc.formulas.formula import ESTIMATE
from memcalc.formulas.precision import precision
from memcalc.sizing.explaining.keys import Key, Make, Table, stated
from memcalc.sizing.explaining.shared import (
    ALWAYS,
    GPU,
    SUGGESTED,
    allocatable,
    line_keys,
    model_key,
    setting,
    verdict_keys,
    withheld,
)
from memcalc.sizing.explaining.step_time import ROWS as STEP_TIME
from memcalc.sizing.settings import settled
from memcalc.sizing.training import TABLES, SizedTraining
from memcalc.specs.training import Training

# --- lines ------------------------------------------------------------------------------------------------------------

# The input of a line that counts elements of weights, and the rule by which these are cut.
COUNTED = {"elements": "whole", "sharded_elements": "rows", "partitioned_elements": "flat"}


def formats(a: TrainingEstimate) -> dict[int, str]:
    """Number formats of a step's tensors, by bytes of an element."""
    words = precision(a.run.precision, fsdp=a.run.fsdp)
    return {1: "8 bit", 4: "fp32", 8: "int64", words.bytes_of("compute"): words.compute}


def of(a: TrainingEstimate, entry: Line) -> Explanation:
    """A line with its tensors; of states, with the weights whose elements it counts."""
    return of_line(entry, formats=formats(a), parts=[*_weights(a, entry), *_root(a, entry)])


def _weights(a: TrainingEstimate, entry: Line) -> Iterable[Explanation]:
    tensors = _held(a, entry)
    if tensors is None:
        return
    for name, rule in COUNTED.items():
        for shards in (1, *{group.shards for group in a.rank.groups}):
            cut = "flat" if rule == "whole" and shards > 1 else rule  # what is quantised is cut before it is counted
            if entry.inputs.get(name) == tensors.elements(cut, shards) and (shards == 1) == (cut == "whole"):
                yield of_weights(name, tensors, cut, shards)
                return


def _held(a: TrainingEstimate, entry: Line) -> Tensors | None:
    """The weights whose states a line is."""
    name, _, kind = entry.name.partition("/")
    group = next((group for group in a.rank.groups if group.name == name), None)
    if group is None or entry.component not in ("parameters", "gradients", "optimizer_states"):
        return None
    if kind in ("frozen", "upcast") and group.frozen:
        wide, rest = upcast(group.frozen, a.run.upcast)
        return wide if kind == "upcast" else rest
    return {"nf4": group.quantised, "quantised": group.quantised}.get(kind, group.trained)


def _root(a: TrainingEstimate, entry: Line) -> Iterable[Explanation]:
    """Weights outside layers, where a line counts them."""
    outside = Tensors(tuple(held for held in a.rank.stage.held if not held.layered))
    if outside.held and entry.inputs.get("root") == outside.elements():
        yield of_weights("root", outside)


def sum_of_lines(a: TrainingEstimate, path: str, lines: Iterable[Line]) -> Explanation:
    """The sum of so many lines."""
    return summed(path, [of(a, entry) for entry in lines])


def component(name: str) -> Make:
    """Bytes on the GPU of one component, each line at its largest."""

    def make(a: TrainingEstimate, key: Key) -> Explanation:
        return sum_of_lines(a, key.path, (e for e in a.lines if e.component == name and e.place == "gpu"))

    return make


# --- moments ----------------------------------------------------------------------------------------------------------

STATES = ("parameters", "optimizer_states")


def of_moment(a: TrainingEstimate, path: str, alive: Alive, components: Sequence[str] = COMPONENTS) -> Explanation:
    """What is alive at a moment, by component."""
    parts = []
    for name in components:
        lines = [entry for entry in alive.lines if entry.component == name]
        if lines:
            parts.append(of(a, lines[0]) if len(lines) == 1 else sum_of_lines(a, name, lines))
    return summed(path, parts, why=f"what is alive at the moment “{alive.moment.name}”")


def highest(a: TrainingEstimate, path: str, *, optimizer: bool = True) -> Explanation:
    """The highest of a step's moments, with what is alive then; all moments stand among the inputs."""
    heights = {moment.name: a.steady + moment.bytes for moment in a.shown[: None if optimizer else -1]}
    which = max(range(len(heights)), key=list(heights.values()).__getitem__)
    found = of_moment(a, path, a.itemised(which))
    return found._replace(
        formula=f"max({', '.join(heights)})", inputs=heights, source=f"at the moment “{list(heights)[which]}”"
    )


def moment_key(a: TrainingEstimate, key: Key) -> Explanation:
    """moments.*: what is allocated, and its parts."""
    alive = a.itemised(key.number())
    names = {"allocated": COMPONENTS, "states": STATES}.get(key.last, (key.last,))
    if key.last in ("allocated", "states"):
        return of_moment(a, key.path, alive, names)
    return sum_of_lines(a, key.path, (e for e in alive.lines if e.component == key.last))


def moment_line(a: TrainingEstimate, key: Key) -> Explanation:
    """moments.*.lines.*: all lines of one path."""
    alive = a.itemised(key.number())
    paths = list(dict.fromkeys(entry.path for entry in alive.lines))
    lines = [entry for entry in alive.lines if entry.path == paths[key.number(1)]]
    return of(a, lines[0]).named(key.path) if len(lines) == 1 else sum_of_lines(a, key.path, lines)


def peak(a: TrainingEstimate, path: str) -> Explanation:
    return highest(a, path)


def peak_moment(a: TrainingEstimate, key: Key) -> Explanation:
    return highest(a, key.path)._replace(value=key.value, unit="", parts=())


def rank_peak(a: TrainingEstimate, key: Key) -> Explanation:
    rank = a.stages[key.number()]
    found = highest(rank, key.path)
    return found if key.last == "peak" else found._replace(value=key.value, unit="", parts=())


def outside_key(of_save: bool) -> Make:
    """start.* and save.*: what is held at a moment outside the step."""

    def make(a: TrainingEstimate, key: Key) -> Explanation:
        moment = (a.save if of_save else a.start)[key.number()]
        found = {"allocated": moment.lines, "host_per_node": moment.host, "disk": moment.disk, "device": moment.lines}[key.last]
        whole = [of(a, entry) for entry in found]
        beside = [of_line(entry, entry.name) for entry in a.overhead] if key.last == "device" else []
        return summed(key.path, [*whole, *beside], why=f"at the moment “{moment.name}”: {moment.note}")

    return make


def outside_line(of_save: bool) -> Make:
    def make(a: TrainingEstimate, key: Key) -> Explanation:
        moment = (a.save if of_save else a.start)[key.number()]
        path = list(dict.fromkeys(entry.path for entry in moment.lines))[key.number(1)]
        return sum_of_lines(a, key.path, (entry for entry in moment.lines if entry.path == path))

    return make


# --- beyond the peak --------------------------------------------------------------------------------------------------


def reserved(a: TrainingEstimate, path: str) -> Explanation:
    """Peak, workspace, and what the caching allocator holds unused."""
    unused = a.reserved - a.peak - a.workspace
    how = "a replay of the step on PyTorch's caching allocator (docs/explanation/allocator.md)"
    parts = (
        peak(a, "per_gpu.peak"),
        *(of_line(entry, entry.name) for entry in a.overhead if entry.name == "workspace"),  # none under Metal
        given("unused", unused, how if a.replayed else "the caching allocator asks for whole segments of 2 MiB", "B", ESTIMATE),
    )
    return summed(path, parts)


def device(a: TrainingEstimate, path: str) -> Explanation:
    """What nvidia-smi shows."""
    beside = [of_line(entry, entry.name) for entry in a.overhead if entry.name != "workspace"]
    return summed(path, [reserved(a, "per_gpu.reserved"), *beside])


def bound(of_what: str, end: str) -> Make:
    """An end of the range of the peak, of what is reserved, or of the device."""

    def make(a: TrainingEstimate, key: Key) -> Explanation:
        ends = a.measured_range if of_what == "peak" else a.beyond_range
        rows, share = ends.rows, {"low": ends.low, "high": ends.high}[end]
        whose = (
            f"{rows.engine}, {rows.method}"
            if rows.engine
            else f"all engines, {rows.method}"
            if rows.method
            else "all engines and methods"
        )
        quantile = {"low": "10th", "high": "90th"}[end]
        source = f"the {quantile} percentile of measured / predicted − 1 in {rows.rows} runs of {whose} (memcalc validate)"
        parts = (MIDDLE[of_what](a, f"per_gpu.{of_what}"), given("share", share, source, "share", ESTIMATE))
        return follows(key.path, key.value, "B", f"round(per_gpu.{of_what} * (1 + share))", *parts)

    return make


MIDDLE = {"peak": peak, "reserved": reserved, "device": device}

# --- off the GPU ------------------------------------------------------------------------------------------------------


def per_node(place: str) -> Make:
    def make(a: TrainingEstimate, key: Key) -> Explanation:
        parts = [of(a, entry) for entry in a.rank.lines if entry.place == place]
        if place == "host" and a.evaluated.host:
            parts.append(given("activations", a.evaluated.host, "what the layers keep for their backward, offloaded", "B"))
        p = a.run.parallelism
        ranks = min(p.gpus, p.gpus_per_node)
        return follows(key.path, key.value, "B", "ranks * rank", summed("rank", parts),
                       given("ranks", ranks, "min(gpus, gpus_per_node): ranks of a node"))  # fmt: skip

    return make


# --- the verdict ------------------------------------------------------------------------------------------------------


def limit(a: SizedTraining, path: str) -> Explanation:
    """What a process can get of the GPU."""
    assert a.gpu
    assert a.fit
    return follows(path, a.fit.limit, "B", "gpu.allocatable - withheld", allocatable(a.gpu, "gpu.allocatable"), withheld(a))


# --- settings ---------------------------------------------------------------------------------------------------------


def run_key(a: SizedTraining, key: Key) -> Explanation:
    """run.*: what was said, what is a default, and what follows from both."""
    said, p = settled(*a.asked, Training, TABLES), a.run.parallelism
    if key.last == "data_parallel":
        degrees = [setting(name, getattr(p, name), name, said) for name in ("gpus", "tp", "pp", "cp")]
        return follows(key.path, key.value, "ranks", "gpus // (tp * pp * cp)", *degrees)
    if key.last == "shard_size" and "shard_size" not in said:
        return given(key.path, key.value, f"ranks that share one copy of the model under {p.strategy}", "ranks")
    if key.last == "strategy":
        return given(key.path, key.value, "follows from --ddp, --zero, --fsdp and --gpus")
    aliases = {"engine": a.run.engine_row.note, "kernels": "", "loss": "", "optimizer_impl": ""}
    if key.last in aliases and key.last not in said:
        return given(key.path, key.value, f"the default with engine {a.run.engine_row.name}: {a.run.engine_row.note}")
    name = key.steps[1] if key.steps[1] != "parallelism" else key.steps[2]
    return setting(key.path, key.value, name, said, UNITS.get(name, ""))


UNITS = {"seq_len": "tokens", "micro_batch": "sequences", "gpus": "GPUs"}


def trainable(a: TrainingEstimate, key: Key) -> Explanation:
    parts = [of_weights(group.name, group.trained) for group in a.rank.groups if group.trained]
    return summed(key.path, parts, "elements", why="weights on this rank, before sharding, that gradients reach")


def stage(a: TrainingEstimate, key: Key) -> Explanation:
    heights = {f"ranks.{number}.peak": rank.peak for number, rank in enumerate(a.stages)}
    if not heights:
        return given(key.path, key.value, "there is one stage: --pp 1")
    return follows(key.path, key.value, "", f"the stage of max({', '.join(heights)})", inputs=heights)


ROWS: Table = {
    "model.*": lambda a, key: model_key(a.model, key),
    "run.**": run_key,
    **{f"per_gpu.{name}": component(name) for name in COMPONENTS},
    "per_gpu.trainable_parameters": trainable,
    "per_gpu.steady": lambda a, key: summed(key.path, [component(name)(a, key.at(f"per_gpu.{name}")) for name in STATES]),
    "per_gpu.after_forward": lambda a, key: of_moment(a, key.path, a.itemised(0)),
    "per_gpu.peak_forward_backward": lambda a, key: highest(a, key.path, optimizer=False),
    "per_gpu.peak_optimizer_step": lambda a, key: of_moment(a, key.path, a.itemised(-1)),
    "per_gpu.peak": lambda a, key: peak(a, key.path),
    "per_gpu.peak_moment": peak_moment,
    "per_gpu.low": bound("peak", "low"),
    "per_gpu.high": bound("peak", "high"),
    "per_gpu.reserved": lambda a, key: reserved(a, key.path),
    "per_gpu.device": lambda a, key: device(a, key.path),
    **{f"per_gpu.{what}_{end}": bound(what, end) for what in ("reserved", "device") for end in ("low", "high")},
    "per_gpu.pipeline_stage": stage,
    "host.per_node": per_node("host"),
    "host.nvme_per_node": per_node("nvme"),
    "moments.*.lines.*.bytes": moment_line,
    "moments.*.*": moment_key,
    "start.*.lines.*.bytes": outside_line(False),
    "save.*.lines.*.bytes": outside_line(True),
    "start.*.*": outside_key(False),
    "save.*.*": outside_key(True),
    "peak.bytes": lambda a, key: peak(a, key.path),
    "peak.moment": peak_moment,
    **line_keys("peak.lines", lambda a: a.at_peak.lines, of),
    **line_keys("lines", lambda a: a.lines, of),
    **STEP_TIME,
    "ranks.*.stage": stated("number of the pipeline stage"),
    "ranks.*.*": rank_peak,
    **verdict_keys(device, limit),
    **SUGGESTED,
    **GPU,
    **ALWAYS,
}
