"""From a run's settings to the profile that blocks are played under."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.attention import Attention
from memcalc.blocks.playing import play, play_entry, play_exit
from memcalc.blocks.profile import KERNELS, Profile
from memcalc.blocks.tape import FP32, HALF, Size
from memcalc.errors import Unsupported
from memcalc.estimates.adapters import adapter_names
from memcalc.estimates.placement import Stage
from memcalc.specs.training import Training

FP8 = 1


def profile_of(run: Training, architecture: Architecture) -> Profile:
    """The profile of one run: formats from the precision, kernels from the engine, degrees from the parallelism."""
    p = run.parallelism
    longest = run.seq_len
    return _profile(
        run.precision, run.fsdp, run.attention, run.kernels_used, run.loss_used, run.method, run.lora_rank,
        adapter_names(architecture, run.lora_targets) if run.method != "full" else (), run.recompute, p.tp, p.ep,
        p.sequence_parallel, not run.fsdp and p.gpus == 1, any(longest >= window for window in _windows(architecture)),
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _profile(
    precision: str, fsdp: bool, attention: str, kernels: str, loss: str, method: str, rank: int, adapters: tuple[str, ...],
    recompute: str, tp: int, ep: int, sequence_parallel: bool, composite: bool, masked: bool,
) -> Profile:  # fmt: skip
    compute = FP32 if precision == "fp32" else HALF
    # DDP and single GPUs know "mixed" as 16-bit weights beside an fp32 master; under FSDP the gathered weights are 16 bit
    autocast = precision.endswith("-amp") and method == "full"  # adapters stand on a frozen base that is 16 bit already
    return Profile(
        compute=compute,
        weights=FP32 if autocast or precision == "fp32" else HALF,
        autocast=autocast,
        attention=attention,
        core_kept=recompute != "selective",
        kernels=KERNELS[kernels],
        # one-device traces compose silu's backward; GPUs have a kernel for it, so there this is an upper bound
        composite=composite,
        loss=loss,
        masked=masked,
        trained=method == "full",
        adapters=adapters,
        rank=rank if adapters else 0,
        adapter_each=HALF if precision.endswith("-amp") else FP32,
        quantised=method == "qlora",
        saved_input=FP8 if precision == "fp8-mixed" and kernels == "te" else 0,
        tp=tp,
        ep=ep,
        sequence_parallel=sequence_parallel,
    )


@lru_cache(maxsize=256)
def _windows(architecture: Architecture) -> frozenset[int]:
    return frozenset(attention.window for attention in _attentions(architecture) if attention.window)


@lru_cache(maxsize=256)
def _attentions(architecture: Architecture) -> tuple[Attention, ...]:
    return tuple(
        block
        for part in architecture.parts
        for stack in part.stacks
        for layer in stack.layers
        for _, block in layer.blocks
        if isinstance(block, Attention)
    )


def shared_tables(architecture: Architecture, run: Training, profile: Profile) -> int:
    """cos and sin, [sequence, rotated dimensions] each, one pair for every kind of rotary embedding; and, where layers are
    recomputed, the attention mask that every checkpoint keeps a reference to."""
    here = run.seq_len // run.parallelism.cp
    rotary = sum(2 * here * dims for dims in _rotary(architecture)) * profile.residual + input_leaf(architecture, run, profile)
    if run.recompute != "full":
        return rotary
    if run.attention == "eager":
        return rotary + here * run.seq_len * profile.residual
    return rotary + (here * run.seq_len if profile.masked else 0)


def input_leaf(architecture: Architecture, run: Training, profile: Profile) -> int:
    """PEFT with recomputation makes the embedding's output a leaf (enable_input_require_grads); it and its gradient, of the
    previous step too, stay until they are collected. Returns the bytes of one such pair."""
    if run.method == "full" or run.recompute != "full":
        return 0
    tokens = run.micro_batch * (run.seq_len // run.parallelism.cp)
    return 2 * tokens * architecture.hidden * profile.residual


@lru_cache(maxsize=256)
def _rotary(architecture: Architecture) -> tuple[int, ...]:
    """Rotated dimensions of each distinct rotary table: layers with and without a window have their own."""
    return tuple(
        dims
        for dims, _ in sorted(
            {
                (
                    block.rotary_dim or block.head_dim,
                    bool(block.window) and architecture.model_type.startswith("gemma3"),
                )
                for block in _attentions(architecture)
                if block.rotary
            }
        )
    )


@lru_cache(maxsize=4096)
def _by_block(stage: Stage, profile: Profile, hidden: int, recompute: bool) -> tuple[tuple[str, Size, int], ...]:
    """Saved sizes by block: (name, size, how many layers keep it)."""
    out: dict[tuple[str, int], Size] = {}

    def collect(saved: tuple[tuple[str, Size], ...], layers: int, prefix: str) -> None:
        for label, size in saved:
            name = f"{prefix}{label.split('/', 1)[0]}"
            out[name, layers] = out.get((name, layers), Size()) + size

    try:
        if stage.entry:
            collect(play_entry(stage.entry, profile).saved, 1, "")
        for layer, count in zip(stage.sequence.kinds, stage.sequence.counts, strict=True):
            played = play(layer, profile, hidden)
            saved = (("input", played.input_bytes),) if recompute else played.saved
            collect(saved, count, "layers/")
        if stage.exit:
            collect(play_exit(stage.exit, profile, hidden).saved, 1, "")
    except AttributeError as error:
        raise Unsupported(f"activations of this model are not modelled yet ({error.name})") from None
    return tuple((name, size, layers) for (name, layers), size in out.items())


def saved_by_block(
    stage: Stage, profile: Profile, hidden: int, recompute: bool, offload: bool, in_flight: int, tokens: int, pairs: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """One line's name and inputs for every kind of block that keeps something."""
    for name, size, layers in _by_block(stage, profile, hidden, recompute):
        if offload and name.startswith("layers/"):
            continue
        waiting = 1 if name.split("/", 1)[0] in ("final_norm", "head", "loss") else in_flight
        yield name, {
            "per_token": size.token, "tokens": tokens, "per_pair": size.pair, "pairs": pairs, "fixed": size.fixed,
            "layers": layers * waiting,
        }  # fmt: skip
