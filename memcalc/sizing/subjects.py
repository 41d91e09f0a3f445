"""What is sized and what on: a model and an accelerator, by name, by path, as read, or written out."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from memcalc.blocks.architecture import Architecture
from memcalc.errors import InputError
from memcalc.readers.models import Model, read_model
from memcalc.specs.device import Device

if TYPE_CHECKING:
    from memcalc.specs.hardware import Accelerator

# a preset's name, a path, a parameter count, a config's keys and values, or what memcalc made of one of these
AnyModel = str | os.PathLike[str] | int | Mapping[str, Any] | Architecture | Model
AnyAccelerator: TypeAlias = "str | Accelerator | None"


def as_model(model: AnyModel, presets: Sequence[str] = ()) -> Model:
    """The model that is meant; `presets` are the user's own folders."""
    if isinstance(model, Model):
        return model
    if isinstance(model, Architecture):
        return Model(model.name or model.model_type, model, model.parameters, "architecture")
    if isinstance(model, Mapping):
        from memcalc.readers.hf import read_config

        architecture = read_config(dict(model), "config")
        return as_model(replace(architecture, name=architecture.name or str(model.get("model_type", "config"))))
    if isinstance(model, bool) or not isinstance(model, (str, int, os.PathLike)):
        raise InputError(f"{model!r:.40} is no name, path, parameter count or config", place="MODEL")
    return read_model(os.fspath(model) if isinstance(model, os.PathLike) else str(model), presets)


class Subjects:
    """Models and accelerators that many questions name: each is read once, so that they share what is worked out of it."""

    def __init__(self, presets: Sequence[str] = ()) -> None:
        self.presets = presets
        self._models: dict[str, Model] = {}
        self._accelerators: dict[str, Accelerator | None] = {}

    def model(self, name: str) -> Model:
        if name not in self._models:
            self._models[name] = as_model(name, self.presets)
        return self._models[name]

    def accelerator(self, name: str | None) -> "Accelerator | None":
        if name is None:
            return None
        if name not in self._accelerators:
            self._accelerators[name] = as_accelerator(name, self.presets)
        return self._accelerators[name]


def as_machine(gpu: AnyAccelerator, presets: Sequence[str] = (), device: Device | None = None) -> "tuple[Accelerator, ...]":
    """The GPUs of one machine: "A+B" is one of each; what `device` says goes before the catalogue's figures of a single one."""
    if isinstance(gpu, str) and "+" in gpu:
        from memcalc.specs.offloading import MOST_CARDS

        names = [name.strip() for name in gpu.split("+")]
        if len(names) > MOST_CARDS:
            raise InputError(f"at most {MOST_CARDS} GPUs share a machine, not {len(names)}", place="gpu")
        found = tuple(accelerator for name in names if (accelerator := as_accelerator(name, presets)))
        if device and {"gpu_memory", "gpu_bandwidth", "gpu_flops"} & device.model_fields_set:
            raise InputError("figures in place of the catalogue's are those of one GPU, not of several", place="gpu")
        if device and device.reserved >= min(card.limit for card in found):
            raise InputError(f"{device.reserved:,} bytes leave nothing of the smallest GPU", place="reserved")
        return found
    single = as_accelerator(gpu, presets, device)
    return (single,) if single else ()


def as_accelerator(gpu: AnyAccelerator, presets: Sequence[str] = (), device: Device | None = None) -> "Accelerator | None":
    """The accelerator that is meant, or none; what `device` says of it goes before the catalogue's figures."""
    if device is not None:
        return device.described(as_accelerator(gpu, presets))
    if gpu is None:
        return None
    if isinstance(gpu, str):
        from memcalc.readers.catalogue import accelerator

        return accelerator(gpu, presets)
    from memcalc.specs.hardware import Accelerator

    if not isinstance(gpu, Accelerator):
        raise InputError(f"{gpu!r:.40} is no accelerator and no name of one", place="gpu")
    return gpu
