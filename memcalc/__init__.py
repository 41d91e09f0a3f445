"""memcalc: memory, compute and scaling laws of large language models.

>>> import memcalc
>>> model = memcalc.read_model("llama-3.1-8b")
>>> run = memcalc.Training(parallelism=memcalc.Parallelism(gpus=8, zero=3), seq_len=8192)
>>> memcalc.estimate_training(model.architecture, run).components["parameters"]
2007565312
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from memcalc.errors import InputError, MemcalcError, Unsupported
    from memcalc.estimates.budget import estimate as estimate_budget
    from memcalc.estimates.serving import estimate as estimate_serving
    from memcalc.estimates.training import estimate as estimate_training
    from memcalc.readers.catalogue import accelerator
    from memcalc.readers.hf import read_config
    from memcalc.readers.models import read_model
    from memcalc.specs.budget import Budget
    from memcalc.specs.parallelism import Parallelism
    from memcalc.specs.serving import Serving
    from memcalc.specs.training import Training

# name → where it lives; imported when it is first asked for, so that `import memcalc` costs nothing
_PUBLIC = {
    "InputError": ("memcalc.errors", "InputError"),
    "MemcalcError": ("memcalc.errors", "MemcalcError"),
    "Budget": ("memcalc.specs.budget", "Budget"),
    "Parallelism": ("memcalc.specs.parallelism", "Parallelism"),
    "Serving": ("memcalc.specs.serving", "Serving"),
    "Training": ("memcalc.specs.training", "Training"),
    "Unsupported": ("memcalc.errors", "Unsupported"),
    "accelerator": ("memcalc.readers.catalogue", "accelerator"),
    "estimate_budget": ("memcalc.estimates.budget", "estimate"),
    "estimate_serving": ("memcalc.estimates.serving", "estimate"),
    "estimate_training": ("memcalc.estimates.training", "estimate"),
    "read_config": ("memcalc.readers.hf", "read_config"),
    "read_model": ("memcalc.readers.models", "read_model"),
}

__all__ = [
    "Budget",
    "InputError",
    "MemcalcError",
    "Parallelism",
    "Serving",
    "Training",
    "Unsupported",
    "accelerator",
    "estimate_budget",
    "estimate_serving",
    "estimate_training",
    "read_config",
    "read_model",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'memcalc' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _PUBLIC[name]
    return getattr(import_module(module), attribute)
