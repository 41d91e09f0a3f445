"""Moments outside the step: what a rank and its node hold while the model is loaded and made ready, and while it is saved.

They do not enter the step's peak. Sources: transformers modeling_utils.py (weights are read on the host and moved, or into
place under device_map), accelerate utils/fsdp_utils.py (rank 0 reads, units are broadcast and cut), DeepSpeed
runtime/zero/stage_1_and_2.py (parameters are flattened into one buffer on the GPU where it has room, else on the host) and
runtime/engine.py (_zero3_consolidated_16bit_state_dict: module by module onto rank 0's host), bitsandbytes nn/modules.py
(Params4bit: a matrix is moved in 16 bit, then quantised).
"""

from collections.abc import Iterator

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.lines import Line, line
from memcalc.estimates.training.ranks import Rank
from memcalc.formulas.model_states import gathered_bytes, outside_bytes
from memcalc.frozen import NamedTuple
from memcalc.specs.training import Training

HALF = 2


class Outside(NamedTuple):
    """One moment outside the step."""

    name: str
    note: str
    lines: tuple[Line, ...]  # on the heaviest rank's GPU
    host: tuple[Line, ...] = ()  # of a whole node
    disk: tuple[Line, ...] = ()  # of all ranks together

    @property
    def allocated(self) -> int:
        return sum(entry.bytes for entry in self.lines)

    @property
    def host_per_node(self) -> int:
        return sum(entry.bytes for entry in self.host)

    @property
    def on_disk(self) -> int:
        return sum(entry.bytes for entry in self.disk)


def start(architecture: Architecture, run: Training, rank: Rank) -> tuple[Outside, ...]:
    """From the checkpoint to parameters in their places."""
    return (*_loading(architecture, run, rank), *_flattening(run, rank))


def save(architecture: Architecture, run: Training, rank: Rank) -> tuple[Outside, ...]:
    """The trained weights as one model, and a checkpoint to resume from."""
    return (_whole_model(architecture, run, rank), _checkpoint(architecture, run, rank))


# --- start ------------------------------------------------------------------------------------------------------------


def _loading(architecture: Architecture, run: Training, rank: Rank) -> Iterator[Outside]:
    setting, p = rank.setting, run.parallelism
    stored = tuple(entry for entry in rank.lines if entry.component == "parameters" and entry.place == "gpu")
    here = min(p.gpus, p.gpus_per_node)
    if run.method_row.quantised:
        matrix = max((group.quantised.largest for group in rank.groups if group.quantised), default=0)
        moving = line("parameters", "matrix before it is quantised", "start", outside_bytes, elements=matrix, bytes_each=HALF)
        yield Outside("quantising", "each matrix comes in 16 bit and is quantised", (*stored, moving))
        return
    if setting.strategy.cuts_parameters:
        largest = rank.stage.largest_layer if setting.strategy.wraps_layers else _largest_tensor(rank)
        unit = line("communication", "unit before it is cut", "start", gathered_bytes, root=0, layer=largest, layers=1,
                    bytes_each=setting.weights)  # fmt: skip
        note = "rank 0 reads the model on its host; what the others need is broadcast and cut"
        yield Outside("loading", note, (*stored, unit), (_on_host(architecture, 1, setting.frozen),))
        return
    copies = here if run.engine_row.trainer and p.tp * p.pp == 1 else 0
    note = "every rank reads the model on its host and moves it" if copies else "weights are read into their places"
    yield Outside("loading", note, stored, (_on_host(architecture, copies, setting.frozen),) if copies else ())


def _flattening(run: Training, rank: Rank) -> Iterator[Outside]:
    """ZeRO 1 and 2 copy the whole model into one flat buffer before they let go of its tensors."""
    if run.parallelism.zero not in (1, 2):
        return
    stored = tuple(entry for entry in rank.lines if entry.component == "parameters" and entry.place == "gpu")
    trained = sum(group.trained.elements() for group in rank.groups if group.trained)
    flat = line("parameters", "flat buffer", "start", outside_bytes, elements=trained, bytes_each=rank.setting.weights)
    yield Outside("flattening", "on the GPU where it has room, which older DeepSpeed takes for granted", (*stored, flat))


def _on_host(architecture: Architecture, copies: int, each: int) -> Line:
    return line("parameters", f"model on the host, {copies} times", "start", outside_bytes, "host",
                elements=architecture.parameters * copies, bytes_each=each)  # fmt: skip


def _largest_tensor(rank: Rank) -> int:
    return max(rank.stage.dense.largest, rank.stage.routed.largest)


# --- save -------------------------------------------------------------------------------------------------------------


def _whole_model(architecture: Architecture, run: Training, rank: Rank) -> Outside:
    """The weights that are trained as files of a whole model; adapters alone where there are some."""
    setting = rank.setting
    name, elements = _written(architecture, run, rank)
    file = line("parameters", name, "save", outside_bytes, "host", elements=elements, bytes_each=setting.weights)
    if not setting.strategy.cuts_parameters:
        return Outside(f"saving the {name}", "rank 0 writes its own copy", rank.steady, (file,), (file,))
    largest = rank.stage.largest_layer if setting.strategy.wraps_layers else _largest_tensor(rank)
    unit = line("communication", "unit that is gathered", "save", gathered_bytes, root=0, layer=largest, layers=1,
                bytes_each=setting.weights)  # fmt: skip
    note = "unit by unit gathered and moved to rank 0's host"
    return Outside(f"saving the {name}", note, (*rank.steady, unit), (file,), (file,))


def _checkpoint(architecture: Architecture, run: Training, rank: Rank) -> Outside:
    """Weights and optimizer states of all ranks, each writing its own."""
    p, setting = run.parallelism, rank.setting
    shards = max((group.shards for group in rank.groups), default=1)
    owners = p.tp * p.pp * (shards if setting.strategy.cuts_optimizer else 1)
    states = sum(entry.bytes for entry in rank.lines if entry.component == "optimizer_states")
    _, weights = _written(architecture, run, rank)
    disk = (
        line("parameters", "weights", "save", outside_bytes, "host", elements=weights, bytes_each=setting.weights),
        line("optimizer_states", "optimizer states of all ranks", "save", outside_bytes, "host", elements=states * owners,
             bytes_each=1),
    )  # fmt: skip
    here = min(owners, p.gpus_per_node)
    host = line(
        "optimizer_states", "a node's parts, at most", "save", outside_bytes, "host", elements=states * here, bytes_each=1
    )
    return Outside("saving a checkpoint", "every rank writes its part", rank.steady, (host,), disk)


def _written(architecture: Architecture, run: Training, rank: Rank) -> tuple[str, int]:
    """What is saved of the weights, and its elements: of adapters those that are trained, of all stages and tensor-parallel
    ranks."""
    if not run.adapts:
        return "model", architecture.parameters
    here = sum(group.trained.elements() for group in rank.groups if group.trained)
    return "adapters", here * run.parallelism.tp * run.parallelism.pp if run.parallelism.pp > 1 else here
