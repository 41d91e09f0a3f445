"""From a run's settings to the profile that blocks are recorded under."""

from collections.abc import Iterator
from typing import Any

from memcalc.autograd.profile import (
    KERNELS,
    LOSSES,
    LOW,
    Adapters,
    Batch,
    Degrees,
    ExpertLoad,
    Formats,
    Keeps,
    MethodTraits,
    Preference,
    Profile,
)
from memcalc.autograd.tape import FP32, HALF, ZERO, Size, Tensor
from memcalc.blocks.architecture import Architecture
from memcalc.blocks.attention.rotary import RotaryTable
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.recording import record_entry
from memcalc.caches import cached
from memcalc.errors import Unsupported
from memcalc.estimates.placement import Stage, main_parts
from memcalc.estimates.training.adapters import adapter_names, expert_names
from memcalc.formulas.formula import ceil_div
from memcalc.formulas.optimizer_steps import step_temporaries
from memcalc.formulas.optimizers import optimizer
from memcalc.formulas.precision import precision
from memcalc.specs.training import Training

FP8 = 1
TABLES, LEAF = "rotary tables and masks", "input leaf"  # lines of what all layers share


def profile_of(run: Training, architecture: Architecture) -> Profile:
    """The profile of one run: formats from the precision, kernels from the engine, degrees from the parallelism."""
    p = run.parallelism
    adapters = adapter_names(architecture, run.adapter_targets) if run.adapts else ()
    formats = precision(run.precision)
    compute = formats.bytes_of("compute")
    amp, full = run.autocasts, not run.adapts
    # adapters stand on a frozen base that is 16 bit already, so autocast has nothing to cast there, but what was upcast
    autocast = amp and (full or run.upcast != "")
    fp32 = compute == FP32 or (autocast and full) or run.upcast == "all"
    frozen = "embeddings" in run.freeze or run.train_layers is not None
    own = run.method_row.quantised and not run.base.plain  # PEFT has adapter modules of their own for these matrices
    return Profile(
        kernels=KERNELS[run.kernels_used],
        attention=run.attention_used,
        core_kept="core_attn" not in run.modules,
        modules=run.modules,
        loss=run.loss_used,
        formats=Formats(
            compute=compute,
            weights=FP32 if fp32 else HALF,
            autocast=autocast,
            saved_input=FP8 if formats.products == "fp8" and KERNELS[run.kernels_used].own_products else 0,
            low=low_precision(formats.products, sharded=run.fsdp),
            wide_stream=architecture.wide_stream,
            kbit=run.upcast,
        ),
        method=MethodTraits(
            trained=full or run.mixes_units,
            frozen_embeddings=frozen,
            leaf=(frozen or run.prompt > 0) and run.recompute == "full" and run.engine_row.leaf,
            fake_quantised=run.method_row.fake_quantised,
            prompt=run.prompt,
            also=run.train_also,
            accumulated=run.main_gradients,
            quantised=run.method_row.quantised,
            expands=run.base.expands,
            casts=run.base.casts,
            keeps_inputs=run.method_row.quantised and run.base.keeps_input,
            update=update_of(run, FP32 if fp32 else HALF),
        ),
        adapters=Adapters(
            layers=adapters,
            rank=run.lora_rank if adapters else 0,
            kind=run.method_row.adapter,
            magnitude=run.method_row.magnitude,
            itemsize=HALF if amp else FP32 if run.fp32_adapters else compute,
            autocast=amp and bool(adapters) and run.adapter_dtype != "half",
            narrow=own and not amp,
            upcast=run.fp32_adapters and not (own and amp),
            dropout=run.lora_dropout,
            experts=expert_names(architecture, run.adapter_targets) if run.expert_adapters_used != "none" else (),
            own=run.expert_adapters_used == "own",
        ),
        keeps=Keeps(run.keep_output, run.use_cache or run.prefix > 0, run.recompute == "full" and _hears(architecture)),
        degrees=Degrees(p.tp, p.ep, p.etp, p.cp, p.cp_kind, p.sequence_parallel, p.tp > 1 and run.engine_row.gathers_logits),
        load=ExpertLoad(run.expert_imbalance, run.capacity_factor or 0.0, run.pad_to_capacity),
        batch=batch_of(architecture, run),
        preference=Preference(run.objective_row.scored, run.reference_used in ("same", "frozen"), run.objective_row.likelihood),
    )


def _hears(architecture: Architecture) -> bool:
    """Whether it begins with layers of convolutions over sound."""
    return any(block.hears for _, block in main_parts(architecture)[0].entry)


def update_of(run: Training, gradient: int) -> float:
    """What a step inside the backward makes for each byte of a whole gradient; shards are small."""
    if not run.steps_in_backward or run.fsdp:
        return 0.0
    formats = precision(run.precision, fsdp=False)
    made = step_temporaries(optimizer(run.optimizer), run.optimizer_impl_used)
    return made.bytes_per_element(formats.bytes_of("master") or formats.bytes_of("weights")) / gradient


def low_precision(products: str, *, sharded: bool) -> str:
    """In what linear layers multiply, a key of LOW; "" where they keep what they read."""
    apart = f"{products}, sharded"
    return apart if sharded and apart in LOW else products if products in LOW else ""


def batch_of(architecture: Architecture, run: Training) -> Batch:
    """What a profile knows of batch and length: runs that agree on it, and on all else, share what they record."""
    encoder = main_parts(architecture)[0]
    with_source = encoder.name == "encoder"
    counted = with_source or any(b.traits.squares or b.traits.by_sequence for b in _mixers(architecture))
    return Batch(
        sequences=run.rows if counted else 1,
        length=_uneven(architecture, run.row_length // run.parallelism.cp),
        masked=needs_masks(architecture, run.row_length),
        source=encoder.tokens / run.row_length if with_source and encoder.tokens else 1.0,
        routed_tokens=routed_tokens(run) if run.capacity_factor else 0,
        packed=(run.tokens_per_batch is not None or run.masks_padding) and run.attention_used != "flash",
        head_tokens=min(LOSSES[run.loss_used].head_tokens, run.tokens // run.parallelism.cp),
        tiles=tiles_of(architecture, run),
        prefix=run.prefix / run.row_length,
    )


def feeds_gradient(run: Training, stage: Stage, profile: Profile) -> bool:
    """Whether a gradient flows out of a stage's first layer: to the stage before, or to what embeds.

    Behind frozen embeddings none does, unless they are made a leaf for recomputation's sake.
    """
    if not stage.entry:
        return True
    if run.train_layers:
        return run.recompute == "full" and run.engine_row.leaf
    if run.adapts:
        return run.recompute == "full" or "embeddings" in run.train_also or run.prompt > 0
    try:
        return "embeddings" not in run.freeze or record_entry(stage.entry, profile).flows
    except Unsupported:  # the textbook's formula does not ask
        return True


def routed_tokens(run: Training) -> int:
    """Tokens of a micro-batch that one rank's router sees."""
    p = run.parallelism
    return run.tokens // p.cp // (p.tp if p.sequence_parallel else 1)


def tiles_of(architecture: Architecture, run: Training) -> int:
    """Tiles of a feed-forward's tokens: of a sequence as many as it is longer than the model is wide (axolotl
    monkeypatch/tiled_mlp/patch.py and deepspeed/runtime/sequence_parallel/ulysses_sp.py, TiledMLP)."""
    if not run.tiled_mlp:
        return 0
    return run.mlp_tiles or ceil_div(run.row_length // run.parallelism.cp, architecture.hidden)


def needs_masks(architecture: Architecture, seq_len: int) -> bool:
    """Whether the sequence outgrows some layer's window, so that this layer needs a mask."""
    window = smallest_window(architecture)
    return window is not None and seq_len >= window


@cached(4096)
def _uneven(architecture: Architecture, length: int) -> int:
    """The length where some layer's scan has to pad it to whole chunks, or treats its first and last block unlike the
    others, else 0: profiles of other lengths are the same."""
    mixers = tuple(_mixers(architecture))
    chunks = {chunk for block in mixers if (chunk := block.traits.scan_chunk)}
    return length if any(length % chunk for chunk in chunks) or any(b.traits.uneven_scan for b in mixers) else 0


@cached(256)
def smallest_window(architecture: Architecture) -> int | None:
    return min((window for block in _mixers(architecture) if (window := block.traits.window)), default=None)


@cached(256)
def _attentions(architecture: Architecture) -> tuple[Attention, ...]:
    return tuple(block for block in _mixers(architecture) if isinstance(block, Attention))


def _mixers(architecture: Architecture) -> Iterator[Any]:
    """Every distinct layer's blocks."""
    stacks = (stack for part in architecture.parts for stack in part.stacks)
    return (block for stack in stacks for layer in stack.layers for _, block in layer.blocks)


def shared_tensors(architecture: Architecture, run: Training, profile: Profile, *, scores: bool = True) -> tuple[Tensor, ...]:
    """What all layers refer to: cos and sin, [positions, rotated dimensions] each, one pair for every kind of rotary embedding;
    masks; and the leaf that PEFT makes of the embedding's output, with its gradient. `scores`: the stage has the head."""
    tables = tuple(
        Tensor(f"{TABLES}/cos and sin", Size(position=2 * table.dims), table.each or profile.formats.residual)
        for table in _rotary(architecture)
    )
    learned = sum(table.dims for table in _rotary(architecture) if table.learned)
    masks = _shared_masks(architecture, profile, run.recompute == "full") or _eager_masks(architecture, run, profile)
    handed = _handed(architecture, profile) if run.recompute == "full" else ()
    leaf = input_leaf(architecture, run, profile)
    return (
        *tables,
        *((Tensor(f"{TABLES}/angles", Size(position=learned), FP32),) if learned else ()),
        *((Tensor(f"{TABLES}/masks", Size(pair=masks)),) if masks else ()),
        *(Tensor(f"{TABLES}/handed on", size) for size in handed),
        *_engine_buffers(architecture, profile, scores),
        *((Tensor(f"{LEAF}/tensor and gradient", Size(token=leaf)),) if leaf else ()),
    )


def _engine_buffers(architecture: Architecture, profile: Profile, scores: bool) -> Iterator[Tensor]:
    """Megatron-LM's global memory buffer (megatron/core/utils.py, GlobalMemoryBuffer): what the output layer gathers under
    sequence parallelism, and what unfused attention adds its scores to. Its parts never leave."""
    if not profile.kernels.merged:
        return
    if scores and profile.degrees.sequence_parallel:
        yield Tensor("global memory buffer/head's input, gathered", Size(token=architecture.hidden), profile.formats.compute)
    heads = max((block.heads for block in _attentions(architecture)), default=0)
    if profile.attention == "eager" and heads:
        yield Tensor("global memory buffer/scores", Size(pair=-(-heads // profile.degrees.tp)), profile.formats.compute)


def position_pairs(architecture: Architecture, run: Training, profile: Profile) -> float:
    """Bytes for each pair of positions, whatever the batch, of the attention mask and of T5's biases: every checkpoint of a
    recomputed layer keeps a reference to them."""
    if run.recompute != "full":
        return 0.0
    biases = _shared_biases(architecture, profile)
    indexed = any(
        (traits := block.traits).selected_tokens and traits.kv_lora_rank and traits.rotary for block in _mixers(architecture)
    )  # tokens one by one; where blocks are selected, each layer makes a mask of its own beside none (MiniMax M3)
    handed = _handed(architecture, profile)
    # a mask for pairs, not one of keys, nor one that is counted among what is handed on
    square = any(block.traits.squares for block in _mixers(architecture))
    pairwise = (square or any(_by_pairs(block) for block in _attentions(architecture))) and not handed
    if _shared_masks(architecture, profile, passed=True) or not (pairwise or indexed):
        return biases
    if run.attention == "eager":
        return biases
    masks = run.rows if profile.batch.packed else int(profile.batch.masked)  # padding is each row's own
    return biases + masks + indexed


def _by_pairs(block: Attention) -> bool:
    """Whether its mask is for pairs of positions, not one of keys."""
    return not (block.positions.own or block.mask.by_key)


def _eager_masks(architecture: Architecture, run: Training, profile: Profile) -> float:
    """Bytes a token pair of the masks that eager attention adds to its scores, of each sequence and each kind, where every
    checkpoint keeps a reference to them (transformers masking_utils.eager_mask)."""
    if run.recompute != "full" or run.attention != "eager":
        return 0.0
    kinds = {
        (bool(traits.window), traits.chunked) for block in _mixers(architecture)
        if (traits := block.traits).query_size and not (isinstance(block, Attention) and not _by_pairs(block))
        and (traits.rotary or not traits.selected_tokens)  # without positions (GLM-5 Next), each layer makes the mask itself
        and block.handed(profile) == ZERO  # what is handed on is counted there
    }  # fmt: skip
    return profile.formats.residual * len(kinds)


def _shared_masks(architecture: Architecture, profile: Profile, passed: bool) -> float:
    """Bytes a token pair of masks that all layers share, one of each kind."""
    biased = [block for block in _attentions(architecture) if block.positions.alibi]
    if not biased:
        return 0
    from memcalc.blocks.attention.biased import shared_mask

    return sum({shared_mask(block.positions.alibi, block.heads, profile, passed=passed).pair for block in biased})


@cached(256)
def _handed(architecture: Architecture, profile: Profile) -> tuple[Size, ...]:
    """What layers are given beside their input, once for all of a kind."""
    return tuple(dict.fromkeys(size for block in _mixers(architecture) if (size := block.handed(profile)) != ZERO))


def _shared_biases(architecture: Architecture, profile: Profile) -> float:
    """Bytes for each pair of positions of the biases that layers hand on."""
    firsts = [block for block in _attentions(architecture) if block.positions.relative.first]
    return sum(block.heads * (profile.batch.source if block.cross else 1.0) * profile.formats.weights for block in firsts)


def input_leaf(architecture: Architecture, run: Training, profile: Profile) -> int:
    """PEFT with recomputation makes the embedding's output a leaf (enable_input_require_grads); it and its gradient, of the
    previous step too, stay until they are collected. Returns the bytes a token of one such pair."""
    if not run.adapts or run.recompute != "full" or not run.engine_row.traced or "embeddings" in run.train_also or run.prompt:
        return 0
    itemsize = profile.formats.weights if profile.formats.kbit else profile.formats.residual
    return int(2 * architecture.hidden * itemsize * profile.degrees.stream)


@cached(256)
def _rotary(architecture: Architecture) -> tuple[RotaryTable, ...]:
    """Each distinct rotary table: layers with and without a window have their own in Gemma 3."""
    found = {
        (table, bool(block.window) and architecture.local_rotary) for block in _mixers(architecture) if (table := block.table)
    }
    return tuple(table for table, _ in sorted(found))
