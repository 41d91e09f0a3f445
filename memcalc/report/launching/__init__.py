"""A layout as the engine that runs it wants to be told: launch arguments and configuration files. An engine is one module."""

from collections.abc import Callable
from typing import Any

from memcalc.frozen import NamedTuple
from memcalc.report.launching import accelerate, axolotl, deepspeed, megatron, torchtitan
from memcalc.report.launching.launch import Launch, Written


class Writer(NamedTuple):
    """Which engine's, and the function that writes."""

    engine: str
    write: Callable[[Launch], tuple[Written, ...]]


WRITERS = (
    Writer("torch", accelerate.write), Writer("accelerate", accelerate.write), Writer("deepspeed", deepspeed.write),
    Writer("megatron", megatron.write), Writer("torchtitan", torchtitan.write),
)  # fmt: skip


def written(model: str, settings: dict[str, Any], gpus_per_node: int) -> tuple[Written, ...]:
    """The files of a layout; none for an engine that has no writer. Adapters under transformers have axolotl's file too."""
    launch = Launch(model, settings, gpus_per_node)
    files = tuple(file for writer in WRITERS if writer.engine == launch.engine for file in writer.write(launch))
    if files and launch.get("method") in axolotl.ADAPTERS and launch.engine in ("torch", "accelerate", "deepspeed"):
        return (*files, *axolotl.write(launch))
    return files
