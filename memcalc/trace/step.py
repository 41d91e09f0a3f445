"""One steady training step under fake tensors: the bytes at its moments, and what its forward leaves for the backward."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from memcalc.errors import MemcalcError, Unsupported
from memcalc.estimates.training.activations import recomputed
from memcalc.frozen import NamedTuple
from memcalc.specs.training import Training
from memcalc.trace.allocations import Allocation, Allocations, watching
from memcalc.trace.cuda_like import cuda_functions, cuda_like
from memcalc.trace.libraries import libraries
from memcalc.trace.model import Child, build, named

PRECISIONS = ("fp32", "bf16", "bf16-amp")
CHECKING = ("prophetnet",)  # labels are shifted by code that reads their values: the shifted ones are given
BATCH = "batch"  # who allocates the token ids


class Traced(NamedTuple):
    """Bytes allocated at each moment, and every storage that the forward left."""

    steady: int
    after_forward: int
    peak_forward_backward: int
    peak_optimizer_step: int
    peak_operation: str  # where the forward or backward was highest
    kept: tuple[Allocation, ...]
    layers: str  # path of the stack of layers
    children: dict[int, list[Child]]  # what each layer calls, in order
    entry: list[str]  # modules that run before the layers
    exit: list[Child]  # modules that run after them
    kernels: dict[str, int]  # attention kernels of one step
    versions: dict[str, str]
    events: tuple[tuple[int, int], ...]  # every storage that came (its number, bytes) and left (its number, -1), in order


def trace(values: Mapping[str, Any], run: Training) -> Traced:
    """Trace the second step of the model that the config's values describe: the optimizer's states exist by then.

    The model's output is freed before the backward, as the trainer of transformers does.
    """
    if run.precision not in PRECISIONS or run.adapts or run.optimizer != "adamw" or run.parallelism.gpus > 1:
        raise Unsupported(f"trace steps on one device, trains everything with adamw, and knows {', '.join(PRECISIONS)}")
    try:
        with _quiet():
            return _trace(values, run)
    except MemcalcError:
        raise
    except Exception as error:  # whatever PyTorch or a model's own code says: fake tensors have no values to branch on
        reason = str(error).partition("\n")[0]
        raise Unsupported(
            f"PyTorch cannot trace this model under fake tensors: {type(error).__name__}: {reason:.200}"
        ) from error


def _trace(values: Mapping[str, Any], run: Training) -> Traced:
    found = libraries()
    torch = found.torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers.modeling_layers import GradientCheckpointingLayer

    kernels: Counter[str] = Counter()
    book = Allocations()
    model = build(values, half=run.precision == "bf16", attention=run.attention_used)
    with FakeTensorMode(allow_non_fake_inputs=True), cuda_like(kernels), torch.device("cpu"):
        model.to_empty(device="cpu")
        model.tie_weights()
        model.train()
        if "embeddings" in run.freeze:
            _freeze_embeddings(torch, model)
        if run.recompute == "full":
            contexts = {"context_fn": lambda: (nullcontext(), cuda_functions(kernels))}
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, **contexts})
            layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
            for position, layer in enumerate(layers):
                layer.gradient_checkpointing = recomputed(run).at(position)
        optimizers = _optimizers(torch, model, run)
        names = named(model, book)
        for tensor in (*model.parameters(), *model.buffers()):
            book.see(tensor)
        with watching(book):
            for step in range(2):
                kernels.clear()
                steady = book.live
                mark, book.module = book.mark(), BATCH
                inputs = _inputs(torch, model, run)
                batch = book.since(mark)
                book.restart_peak()
                for _ in range(run.grad_accum):
                    names.restart()
                    mark = book.mark()
                    with torch.autocast("cpu", torch.bfloat16, enabled=run.precision.endswith("-amp")):
                        loss = model(**inputs).loss
                    after_forward, kept = book.live, (*batch, *book.since(mark))
                    loss.backward()
                    del loss
                peak, operation = book.peak, book.peak_operation
                book.restart_peak()
                for optimizer in optimizers:
                    if not run.steps_in_backward:
                        optimizer.step()
                    if step == 0 and run.optimizer_impl_used != "fused":  # counts its steps on the host
                        for state in optimizer.state.values():
                            book.exclude(state["step"])
                    optimizer.zero_grad(set_to_none=True)
                del inputs
    return Traced(
        steady, after_forward, peak, book.peak, operation, kept, names.layers, names.children, names.entry, names.exit,
        dict(kernels), found.versions, tuple(book.events),
    )  # fmt: skip


def _inputs(torch: Any, model: Any, run: Training) -> dict[str, Any]:
    """A batch: token ids that are their own labels; recordings as what the processor makes of them."""
    config, sequences = model.config, run.micro_batch
    ids = torch.randint(0, 2, (sequences, run.seq_len))
    if model.main_input_name == "pixel_values":
        pixels = torch.zeros(sequences, config.num_channels, config.image_size, config.image_size)
        return {"pixel_values": pixels, "labels": ids[:, 0]}
    if model.main_input_name == "input_features":
        size = (sequences, config.num_mel_bins, 2 * config.max_source_positions)
        return {"input_features": torch.zeros(size, dtype=model.dtype), "labels": ids}
    if model.main_input_name == "input_values":  # as many samples as make a token of the encoder for each of the decoder
        sound = torch.zeros(sequences, samples(run.seq_len, model), dtype=model.dtype)
        return {"input_values": sound, "labels": _labels(model, ids)}
    if config.model_type in CHECKING:
        return {"input_ids": ids, "decoder_input_ids": ids.clone(), "labels": ids}
    return {"input_ids": ids, "labels": _labels(model, ids)}


def _labels(model: Any, ids: Any) -> Any:
    """One of each sequence, where that is what is classified; else one a token."""
    return ids[:, 0] if type(model).__name__.endswith("ForSequenceClassification") else ids


def samples(tokens: int, model: Any) -> int:
    """Samples of a recording that its convolutions, which pad nothing, make so many tokens of."""
    import torch

    convolutions = (module for module in model.modules() if isinstance(module, torch.nn.Conv1d))
    for module in reversed([module for module in convolutions if not module.padding[0]]):
        tokens = (tokens - 1) * module.stride[0] + module.kernel_size[0]
    return tokens


def _freeze_embeddings(torch: Any, model: Any) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.requires_grad_(False)


def _optimizers(torch: Any, model: Any, run: Training) -> list[Any]:
    """One for all that is trained; where it steps inside the backward one for each tensor, as soon as its gradient is there."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    how = {name: run.optimizer_impl_used == name for name in ("fused", "foreach")}
    if not run.steps_in_backward:
        return [torch.optim.AdamW(trained, **how)]
    made = {parameter: torch.optim.AdamW([parameter], **how) for parameter in trained}

    def hook(parameter: Any) -> None:
        made[parameter].step()
        made[parameter].zero_grad()

    for parameter in trained:
        parameter.register_post_accumulate_grad_hook(hook)
    return list(made.values())


@contextmanager
def _quiet() -> Iterator[None]:
    """Libraries' advice is not the command's output."""
    logging = libraries().transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
