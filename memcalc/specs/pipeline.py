"""How a pipeline's stages share the layers: evenly, with other first and last stages, or as a layout says (Megatron-LM)."""

import re
from typing import Annotated

from memcalc.specs.spec import SHARDING, Flag, OneOf, SpecError, SpecPart, rule, setting, within

PIPELINES = {
    "gpipe": "all forwards, then all backwards",
    "1f1b": "one forward, one backward: at most as many micro-batches alive as stages",
    "interleaved": "1f1b with several chunks of layers a stage: a shorter bubble, more alive",
    "zero-bubble": "weight gradients fill the bubble (ZB-H1)",
}
SCHEDULES = tuple(PIPELINES)
LEAST_INTERLEAVED = 2  # chunks
Layers = Annotated[int, within(0, 65536)]
SETTINGS = ("virtual_stages", "first_stage_layers", "last_stage_layers", "count_embedding", "count_loss", "pipeline_layout")


class Pipeline(SpecPart):
    """megatron/core/transformer/transformer_block.py, get_num_layers_to_build; pipeline_parallel_layer_layout.py."""

    pp: Annotated[int, within(1, 10_000_000)] = setting(1, "Pipeline parallel degree: stages that share the layers.", SHARDING)
    pipeline_schedule: Annotated[str, OneOf(SCHEDULES)] = setting(
        "1f1b", "Order of forward and backward passes in a pipeline.", SHARDING, choices=PIPELINES
    )
    virtual_stages: Annotated[int, within(1, 1024)] | None = setting(
        None, "Chunks of layers a stage holds, interleaved.", SHARDING, otherwise="1, or 2 where interleaved"
    )
    first_stage_layers: Layers | None = setting(None, "Layers of the first pipeline stage.", SHARDING, otherwise="as others")
    last_stage_layers: Layers | None = setting(None, "Layers of the last pipeline stage.", SHARDING, otherwise="as others")
    count_embedding: Flag = setting(False, "Count the embedding as a layer of the first stage.", SHARDING)
    count_loss: Flag = setting(False, "Count head and loss as a layer of the last stage.", SHARDING)
    pipeline_layout: str | None = setting(
        None, "Megatron's layout: E embedding, t a layer, m predicts, L loss, | between stages, (t|)*3.", SHARDING,
        metavar="LAYOUT", otherwise="even",
    )  # fmt: skip

    @rule(*SETTINGS, "pipeline_schedule")
    def _check_pipeline(self) -> None:
        if (self.virtual_stages or 1) > 1 and self.pipeline_schedule not in ("1f1b", "interleaved"):
            raise SpecError("chunks belong to the interleaved schedule", "virtual_stages", "pipeline_schedule")
        if self.virtual_stages == 1 and self.pipeline_schedule == "interleaved":
            raise SpecError("interleaving needs two chunks or more", "virtual_stages", "pipeline_schedule")
        said = [name for name in SETTINGS if getattr(self, name) not in (None, False)]
        if said and self.pp == 1:
            raise SpecError("divides layers over pipeline stages; add pp", said[0], "pp")
        if self.pipeline_layout and (other := [name for name in said if name != "pipeline_layout"]):
            raise SpecError("the layout says all of that; leave it out", other[0], "pipeline_layout")
        if self.pipeline_layout and len(layers_of_layout(self.pipeline_layout)) % self.pp:
            count = len(layers_of_layout(self.pipeline_layout))
            raise SpecError(f"{count} stages in the layout, which pp {self.pp} does not divide", "pipeline_layout", "pp")
        for end, counted in (("first_stage_layers", "count_embedding"), ("last_stage_layers", "count_loss")):
            if getattr(self, end) is not None and getattr(self, counted):
                raise SpecError("says how many layers that stage has; choose one", end, counted)

    @property
    def chunks(self) -> int:
        """Chunks of layers that a stage holds."""
        if self.pipeline_layout:
            return len(layers_of_layout(self.pipeline_layout)) // self.pp
        return self.virtual_stages or (LEAST_INTERLEAVED if self.pipeline_schedule == "interleaved" and self.pp > 1 else 1)

    def split_of(self, depth: int, predicting: int = 0) -> tuple[int, ...]:
        """Layers of each virtual stage of a model of so many; empty where they are shared evenly, the rest to the first.
        `predicting`: layers beside them that predict further tokens, on the last stage or where a layout says.

        Raises SpecError where they do not come out.
        """
        if self.pipeline_layout:
            split = layers_of_layout(self.pipeline_layout)
            if sum(split) != depth + predicting:
                raise SpecError(f"{sum(split)} layers, but the model has {depth + predicting}", "pipeline_layout")
            return split
        if not any(getattr(self, name) not in (None, False) for name in SETTINGS):
            return ()
        *others, last = self._uneven(depth)
        return (*others, last + predicting)

    def _uneven(self, depth: int) -> tuple[int, ...]:
        pp, chunks = self.pp, self.chunks
        ends = {0: self.first_stage_layers, pp - 1: self.last_stage_layers}
        named = {stage: layers for stage, layers in ends.items() if layers is not None}
        extra = {0: int(self.count_embedding), pp * chunks - 1: int(self.count_loss)}
        rest, others = depth + sum(extra.values()) - sum(named.values()), (pp - len(named)) * chunks
        uneven = next((layers for layers in named.values() if layers % chunks), None)
        if uneven is not None:
            raise SpecError(f"{uneven} layers, which {chunks} chunks do not divide", "first_stage_layers", "last_stage_layers")
        if rest < 0 or (others == 0 and rest) or (others and rest % others and (named or any(extra.values()))):
            said = next(name for name in SETTINGS[1:] if getattr(self, name) not in (None, False))
            raise SpecError(f"leaves {rest} layers for {others} other stages or chunks, which do not come out even", said)
        even = [rest // others + (index < rest % others) for index in range(others)] if others else []
        shares = iter(even)
        split = [named[index % pp] // chunks if index % pp in named else next(shares) for index in range(pp * chunks)]
        return tuple(layers - extra.get(index, 0) for index, layers in enumerate(split))


def _written_out(layout: str) -> str:
    """A layout without its multiples."""
    text = re.sub(r"[\s,]", "", layout)
    while found := re.search(r"\(([^()]*)\)\*(\d{1,5})|([Et L|m])\*(\d{1,5})", text):
        body, times = (found[1], found[2]) if found[2] else (found[3], found[4])
        if len(body) * int(times) > 65536:
            raise SpecError("more layers than any model has", "pipeline_layout")
        text = text[: found.start()] + body * int(times) + text[found.end() :]
    return text


def layers_of_layout(layout: str) -> tuple[int, ...]:
    """Layers of each (virtual) stage of a layout, those that predict further tokens among them.

    >>> layers_of_layout("Ett|(ttt|)*2,tL"), layers_of_layout("Et*3|(tt|)*2,m|L")
    ((2, 3, 3, 1), (3, 2, 2, 1, 0))
    """
    text = _written_out(layout)
    if not re.fullmatch(r"E[t|]*m*\|?L", text):
        raise SpecError(
            "a layout is E, then t for each layer with | between stages, then m for each that predicts further tokens, all on "
            "one stage, then L: Ett|(ttt|)*2,tL",
            "pipeline_layout",
        )
    return tuple(stage.count("t") + stage.count("m") for stage in text.split("|"))


def predicting_of_layout(layout: str) -> int:
    """Layers of a layout that predict further tokens.

    >>> predicting_of_layout("Et*3|(tt|)*2,m|L")
    1
    """
    return _written_out(layout).count("m")
