"""Where llama.cpp and its kin put what: layers, experts and single tensors on this GPU, that one, or in host memory."""

import re
from typing import Annotated

from pydantic import Field

from memcalc.errors import InputError
from memcalc.specs.spec import ENGINE_LIMITS, REQUESTS, STATES, Flag, OneOf, SpecError, SpecPart, setting, within

MOST_PATTERNS, LONGEST_PATTERN, MOST_REPEATS = 32, 200, 4
HOST, MOST_CARDS = "CPU", 64
CARD = re.compile(r"(?:CUDA|ROCM|VULKAN|SYCL|GPU|MTL|METAL)(\d{0,2})$")
REPEAT = re.compile(r"[*+{]|(?<!\()\?")
Parts = Annotated[tuple[Annotated[float, within(0, 1e12)], ...], Field(strict=False, max_length=MOST_CARDS)]


class Offloading(SpecPart):
    """What of a model is on which device, and how its cache is divided: settings of llama.cpp and its kin alone."""

    gpu_layers: Annotated[int, within(0, 100_000)] | None = setting(
        None, "llama.cpp: layers on the GPU, the rest in host memory; max: as many as fit.", ENGINE_LIMITS, kind="largest",
        otherwise="all",
    )  # fmt: skip
    n_cpu_moe: Annotated[int, within(0, 100_000)] | None = setting(
        None, "llama.cpp: the experts of the first N layers in host memory; auto: as few as it takes.", ENGINE_LIMITS,
        kind="fewest", otherwise="none",
    )  # fmt: skip
    override_tensor: Annotated[tuple[str, ...], Field(strict=False)] = setting(
        (), "llama.cpp: PATTERN=DEVICE, tensors whose name matches on CPU, CUDA0 or another GPU", ENGINE_LIMITS,
        metavar="PATTERN=DEVICE",
    )  # fmt: skip
    tensor_split: Parts = setting(
        (), "llama.cpp: parts of the layers for each GPU: 3,1.", ENGINE_LIMITS, kind="parts",
        otherwise="by the memory of each",
    )  # fmt: skip
    split_mode: Annotated[str, OneOf(("layer", "row", "tensor"))] = setting(
        "layer", "llama.cpp: whole layers on each GPU, rows of every matrix, or matrices and cache alike.", ENGINE_LIMITS,
    )  # fmt: skip
    cache_on_host: Flag = setting(False, "llama.cpp: the cache in host memory.", ENGINE_LIMITS)
    flash_attention: Annotated[str, OneOf(("on", "off"))] = setting(
        "on", "llama.cpp: attention without its scores in memory; a quantised cache of values needs it.", ENGINE_LIMITS
    )
    slots: Annotated[int, within(1, 4096)] | None = setting(
        None, "llama.cpp: requests at once that share --context, where --batch multiplies it.", REQUESTS,
        otherwise="none: --batch",
    )  # fmt: skip
    unified: Flag = setting(False, "llama.cpp: one pool of cells for all slots, of which each may take all.", REQUESTS)
    cache_type_k: str | None = setting(
        None, "llama.cpp: number format of the cache's keys.", STATES, metavar="FORMAT", otherwise="--kv-dtype"
    )
    cache_type_v: str | None = setting(
        None, "llama.cpp: number format of the cache's values.", STATES, metavar="FORMAT", otherwise="--kv-dtype"
    )

    @property
    def flash(self) -> bool:
        return self.flash_attention == "on"

    @property
    def overridden(self) -> bool:
        """Whether tensors stand elsewhere than their layer."""
        return bool(self.n_cpu_moe or self.override_tensor)

    @property
    def partly_on_host(self) -> bool:
        """Whether weights or cache of a layer may be in host memory."""
        return self.gpu_layers is not None or self.overridden or self.cache_on_host

    def check_offloading(self, cards: int) -> None:
        """Rules of these settings alone, for so many GPUs."""
        if len(self.override_tensor) > MOST_PATTERNS:
            raise SpecError(f"at most {MOST_PATTERNS} patterns are read, not {len(self.override_tensor)}", "override_tensor")
        for text in self.override_tensor:
            pattern_and_device(text)
        if self.split_mode != "layer" and cards == 1:
            raise SpecError("matrices are divided over several GPUs: give pp, or a machine (--gpu A+B)", "split_mode")
        if self.split_mode == "tensor":
            self._check_tensors()
        if self.tensor_split and cards == 1:
            raise SpecError("divides layers over several GPUs: give pp, or a machine (--gpu A+B)", "tensor_split")
        if self.tensor_split and len(self.tensor_split) != cards:
            raise SpecError(f"{len(self.tensor_split)} parts for {cards} GPUs; give one for each", "tensor_split")
        if self.tensor_split and not sum(self.tensor_split):
            raise SpecError("no GPU gets a layer; give a part above 0", "tensor_split")
        if self.unified and self.slots is None:
            raise SpecError("is how slots share a cache; give slots", "unified")
        self._check_cache_types()

    def _check_tensors(self) -> None:
        """What llama.cpp refuses beside it (docs/multi-gpu.md), and what is not modelled."""
        if not self.flash:
            raise SpecError("llama.cpp divides matrices and cache with flash attention alone", "split_mode", "flash_attention")
        if self.tensor_split:
            raise SpecError("unequal parts of matrices and cache are not modelled: they are even", "split_mode", "tensor_split")
        if self.partly_on_host:
            raise SpecError("matrices divided over GPUs beside layers, tensors or a cache in host memory are not modelled",
                            "split_mode")  # fmt: skip

    def _check_cache_types(self) -> None:
        from memcalc.dtypes import number_format

        for name in ("cache_type_k", "cache_type_v"):
            if (word := getattr(self, name)) is not None:
                try:
                    stored = number_format(word)
                except InputError as error:
                    raise SpecError(str(error), name) from None
                if name == "cache_type_v" and stored.bits_per_value < 16 and not self.flash:
                    raise SpecError("llama.cpp quantises values with flash attention alone", name, "flash_attention")


def pattern_and_device(text: str) -> tuple[re.Pattern[str], int | None]:
    """What `PATTERN=DEVICE` says: names, and the number of a GPU or None for host memory.

    >>> pattern_and_device("exps=CPU")[1], pattern_and_device("blk[.]3[.]=CUDA1")[1]
    (None, 1)
    """
    pattern, _, device = text.rpartition("=")
    place, found = device.strip().upper(), CARD.match(device.strip().upper())
    if not pattern or not (found or place == HOST):
        raise SpecError(f"{text!r:.60} is not PATTERN=DEVICE with a device CPU, CUDA0, CUDA1 …", "override_tensor")
    if len(pattern) > LONGEST_PATTERN or len(REPEAT.findall(pattern)) > MOST_REPEATS or re.search(r"\)[*+{]", pattern):
        raise SpecError(
            f"{pattern!r:.40}: patterns of at most {LONGEST_PATTERN} characters and {MOST_REPEATS} repeats are read, "
            "none of them of a group; give several patterns", "override_tensor",
        )  # fmt: skip
    try:
        return re.compile(pattern), int(found[1] or 0) if found else None
    except (re.error, OverflowError, RecursionError):
        raise SpecError(f"{pattern!r:.60} is not a regular expression", "override_tensor") from None
