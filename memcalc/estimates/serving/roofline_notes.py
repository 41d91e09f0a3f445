"""What a speed rests on, and why parts of it are missing: the sentences beside a roofline."""

from collections.abc import Iterator

from memcalc.blocks.architecture import Architecture
from memcalc.dtypes import number_format
from memcalc.estimates.compute.flops import TEXT_PARTS, estimated_blocks
from memcalc.estimates.serving.bytes_moved import Traffic
from memcalc.estimates.serving.passes import Machine, Pass
from memcalc.formulas.roofline import LINK, MBU, MFU
from memcalc.specs.hardware import Accelerator


def reasons(machine: Machine, accelerator: Accelerator, weights: str, decode: Pass, turns: int | None) -> Iterator[str]:
    """Why a number is missing."""
    if machine.peak is None:
        known = ", ".join(accelerator.peak) or "none"
        yield (
            f"{accelerator.name} has no published dense peak for {weights} weights (published: {known}): no prefill time, "
            "and decode is bound by memory and link alone"
        )
    elif turns is None:
        linked = decode.link and decode.compute and decode.link.value > decode.compute.value
        cause = (
            "its messages take longer than its arithmetic" if linked else "its cache and state take longer than its arithmetic"
        )
        yield f"decode turns compute-bound at no batch: for each sequence {cause}"
    if decode.sent and machine.link is None:
        yield f"{accelerator.name} has no published link: what ranks send each other is left out"


def assumptions(
    architecture: Architecture, machine: Machine, accelerator: Accelerator, need: Traffic, decode: Pass,
    peak_format: str | None, weights: str, given: tuple[bool, bool, bool],
) -> Iterator[str]:  # fmt: skip
    """What the numbers take for granted."""
    yield "speed is a bound at the stated efficiencies, not a promise: latency of kernels, messages and scheduling is left out"
    used = (
        (MFU, machine.mfu, "dense peak"),
        (MBU, machine.mbu, "memory bandwidth"),
        (LINK, machine.link_efficiency, "link bandwidth"),
    )
    for (default, share, name), own in zip(used, given, strict=True):
        if own:
            yield f"{share:.0%} of the {name}, as given"
        elif name != "link bandwidth" or decode.sent:
            yield f"{share:.0%} of the {name}, assumed: {default.note}"
    yield (
        f"compute, memory and link overlap in full; without any overlap a decode step takes {1000 * decode.serial.value:.3g} ms"
    )
    yield "prefill reads one prompt at a time, the head its last token only; decode is at the full context"
    if peak_format and peak_format != number_format(weights).name:
        yield f"{weights} weights multiply at the {peak_format} peak"
    if any(part.name not in TEXT_PARTS for part in architecture.parts):
        yield "prompts are text: towers for images and sound are not run"
    if need.routed:
        yield "routing is uniform and independent: a step reads the experts that its tokens are expected to choose"
    if machine.replicas > 1:
        yield f"the batch is that of each of {machine.replicas} data-parallel groups, which share the experts"
    if machine.pp > 1:
        yield "decode spreads its sequences evenly over the pipeline's stages; a prompt passes them one after the other"
    if decode.link:
        link = accelerator.scale_up or "the scale-up link" if accelerator.scale_up_bandwidth else "PCIe"
        yield f"all ranks share one link: {link}, {(machine.link or 0) / 1e9:g} GB/s one way"
    yield from (f"estimated FLOPs, {reason}" for reason in estimated_blocks(architecture))
