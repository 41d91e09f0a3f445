"""What sharding adds to a step's allocations: parameters gathered around a layer, gradients on their way into shards."""

from memcalc.allocator.caching import CachedBlock
from memcalc.estimates.training.layer_kinds import Setup
from memcalc.estimates.training.replay.device import COMPUTE, GATHER, REDUCE, RankDevice
from memcalc.frozen import NamedTuple


class Unit(NamedTuple):
    """What is gathered together: a layer's parameters, bytes of each as gathered."""

    tensors: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return sum(self.tensors)


class Resident:
    """Nothing is gathered, gradients stay as the backward made them."""

    def __init__(self, setup: Setup, device: RankDevice, units: list[Unit], root: Unit) -> None:
        self.around, self.device, self.units, self.root = setup.around, device, units, root
        self.kept: list[CachedBlock] = []

    def begin(self) -> None:
        """Before the entry's forward."""

    def before_forward(self, position: int) -> None: ...

    def after_forward(self, position: int) -> None: ...

    def turn(self) -> None:
        """Between the last layer's forward and its backward."""

    def before_backward(self, position: int) -> None: ...

    def after_backward(self, position: int) -> None: ...

    def end(self) -> None:
        """After the entry's backward."""

    def reduce(self, gradients: list[CachedBlock], *, adds: bool) -> None:
        """A unit's gradients have been made; `adds`: to those of an earlier micro-batch."""
        self.kept += gradients

    def zero(self) -> None:
        """Gradients leave (zero_grad, set_to_none)."""
        self.device.free(*self.kept)
        self.kept = []


class Reduced(Resident):
    """Gradients are reduced to shards a unit at a time: into a buffer that stays until the next unit's is there
    (torch/distributed/fsdp/_fully_shard/_fsdp_collectives.py, foreach_reduce: the buffer comes from the compute stream, the
    shards, one tensor a unit, from the reduce-scatter's)."""

    def __init__(self, setup: Setup, device: RankDevice, units: list[Unit], root: Unit) -> None:
        super().__init__(setup, device, units, root)
        self.buffer: list[CachedBlock] = []

    def reduce(self, gradients: list[CachedBlock], *, adds: bool) -> None:
        around, size = self.around, sum(block.size for block in gradients)
        self.device.free(*self.buffer)
        self.buffer = []
        if not size:
            return
        reduced = size // around.each * around.reduced_each
        self.buffer = [self.device.new(reduced)]
        self.leave(gradients)
        if not around.away:
            shard = self.device.new(max(1, reduced // around.shards), REDUCE)
            if adds:  # to the shard that an earlier micro-batch left
                self.device.free(shard)
            else:
                self.kept.append(shard)

    def leave(self, gradients: list[CachedBlock]) -> None:
        self.device.free(*gradients)

    def end(self) -> None:
        self.device.free(*self.buffer)
        self.buffer = []


class ByParameter(Reduced):
    """FSDP2, ZeRO 3: gathered into one buffer on a stream of its own, copied into the unit's parameters, which are of the
    compute stream. In the forward the buffer stays until the next is there, in the backward the next one is prefetched
    (_fsdp_param_group.py, wait_for_unshard and pre_backward)."""

    def __init__(self, setup: Setup, device: RankDevice, units: list[Unit], root: Unit) -> None:
        super().__init__(setup, device, units, root)
        self.flying: dict[int, CachedBlock] = {}
        self.whole: dict[int, list[CachedBlock]] = {}

    ROOT = -1

    def _gather(self, position: int) -> None:
        unit = self.root if position == self.ROOT else self.units[position]
        if unit.bytes and position not in self.flying and position not in self.whole:
            self.flying[position] = self.device.new(unit.bytes, GATHER)

    def _land(self, *positions: int) -> None:
        """Buffers leave."""
        self.device.free(*(self.flying.pop(position) for position in positions if position in self.flying))

    def _unshard(self, position: int) -> None:
        unit = self.root if position == self.ROOT else self.units[position]
        if position not in self.whole:  # several micro-batches in flight share what is kept whole
            self.whole[position] = self.device.several(list(unit.tensors), COMPUTE)

    def _reshard(self, position: int) -> None:
        self.device.free(*self.whole.pop(position, ()))

    def begin(self) -> None:
        self._gather(self.ROOT)
        self._unshard(self.ROOT)

    def before_forward(self, position: int) -> None:
        self._gather(position)
        self._land(*(other for other in self.flying if other != position))
        self._unshard(position)

    def after_forward(self, position: int) -> None:
        if not self.around.keeps:
            self._reshard(position)

    def turn(self) -> None:
        self._land(*self.flying)

    def before_backward(self, position: int) -> None:
        self._gather(position)
        self._unshard(position)
        self._land(position)
        if self.around.keeps:
            return
        if position and self.around.prefetches:
            self._gather(position - 1)

    def after_backward(self, position: int) -> None:
        self._reshard(position)

    def end(self) -> None:
        super().end()
        self._land(*self.flying)
        self._reshard(self.ROOT)


class Ahead(Reduced):
    """ZeRO 3: parameters of later modules are fetched until so many bytes are there, into buffers of the all-gather's stream
    that are copied when a module needs them; what is there when the forward ends stays for the backward, which needs it first
    (deepspeed/runtime/zero/partitioned_param_coordinator.py, fetch_sub_module; partition_parameters.py,
    AllGatherCoalescedHandle.wait)."""

    def __init__(self, setup: Setup, device: RankDevice, units: list[Unit], opening: Unit, closing: Unit) -> None:
        super().__init__(setup, device, units, opening)
        self.order = [opening, *units, closing]  # a unit's place is one more than its layer's
        self.limit = (setup.around.live or 0) * setup.around.each
        self.there: dict[int, list[CachedBlock]] = {}  # on their way, or whole
        self.whole: set[int] = set()
        self.bytes, self.last = 0, len(self.order) - 1
        self.stays = self.last  # from this place on units stay for the backward
        while self.stays > 0 and sum(unit.bytes for unit in self.order[self.stays - 1 :]) <= self.limit:
            self.stays -= 1

    def _fetch(self, place: int) -> None:
        if place not in self.there and self.order[place].bytes:
            self.there[place] = [self.device.new(self.order[place].bytes, GATHER)]
            self.bytes += self.order[place].bytes

    def _use(self, place: int, later: range) -> None:
        """This one now, and later ones while there is room."""
        self._fetch(place)
        if place in self.there and place not in self.whole:
            flying, self.there[place] = self.there[place], self.device.several(list(self.order[place].tensors), COMPUTE)
            self.device.free(*flying)
            self.whole.add(place)
        for other in later:
            if other not in self.there and self.bytes + self.order[other].bytes > self.limit:
                return
            self._fetch(other)

    def _release(self, place: int) -> None:
        if place in self.there:
            self.device.free(*self.there.pop(place))
            self.bytes -= self.order[place].bytes
            self.whole.discard(place)

    def begin(self) -> None:
        self._use(0, range(1, self.last + 1))

    def before_forward(self, position: int) -> None:
        if position < self.stays:
            self._release(position)
        self._use(position + 1, range(position + 2, self.last + 1))

    def after_forward(self, position: int) -> None:
        if position + 2 == self.last:
            if self.last - 1 < self.stays:
                self._release(self.last - 1)
            self._use(self.last, range(self.last - 1, -1, -1))

    def turn(self) -> None:
        self._release(self.last)

    def before_backward(self, position: int) -> None:
        self._use(position + 1, range(position, -1, -1))

    def after_backward(self, position: int) -> None:
        self._release(position + 1)

    def end(self) -> None:
        super().end()
        for place in list(self.there):
            self._release(place)


class Flat(Reduced):
    """FSDP1: a unit's parameters are views of one tensor, gathered on a stream of its own. What it frees has been used on
    another stream, so that it is of use again only after later units (torch/distributed/fsdp/_flat_param.py,
    _free_unsharded_flat_param; at most DELAY units wait, _limiter_utils.py, _FreeEventQueue)."""

    def __init__(self, setup: Setup, device: RankDevice, units: list[Unit], root: Unit) -> None:
        super().__init__(setup, device, units, root)
        self.flat: dict[int, CachedBlock] = {}

    def _gather(self, position: int, unit: Unit) -> None:
        if unit.bytes and position not in self.flat:
            self.flat[position] = self.device.new(unit.bytes, GATHER)

    def _reshard(self, position: int) -> None:
        if position in self.flat:
            self.device.free_later([self.flat.pop(position)], GATHER)

    def begin(self) -> None:
        self._gather(-1, self.root)

    def before_forward(self, position: int) -> None:
        self._gather(position, self.units[position])

    def after_forward(self, position: int) -> None:
        if not self.around.keeps:
            self._reshard(position)

    def before_backward(self, position: int) -> None:
        self._gather(position, self.units[position])
        if position and self.around.prefetches and not self.around.keeps:
            self._gather(position - 1, self.units[position - 1])

    def after_backward(self, position: int) -> None:
        self._reshard(position)

    def leave(self, gradients: list[CachedBlock]) -> None:
        self.device.free_later(gradients, REDUCE)

    def end(self) -> None:
        super().end()
        if -1 in self.flat:
            self.device.free(self.flat.pop(-1))


DELAY = 2  # torch/distributed/fsdp/_limiter_utils.py, _FreeEventQueue._max_num_inflight_all_gathers


def traffic_of(setup: Setup, device: RankDevice, units: list[Unit], opening: Unit, closing: Unit, *, flat: bool) -> Resident:
    """How this rank's sharding moves parameters and gradients. `opening`, `closing`: what is before and after the layers."""
    around, root = setup.around, Unit((*opening.tensors, *closing.tensors))
    if around.gathers and around.live is not None:
        return Ahead(setup, device, units, opening, closing)
    if not (around.gathers or around.keeps):
        return (Reduced if around.reduces else Resident)(setup, device, units, root)
    return (Flat if flat else ByParameter)(setup, device, units, root)
