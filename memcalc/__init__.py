"""memcalc: memory, compute and scaling laws of large language models.

>>> import memcalc
>>> step = memcalc.size_training("llama-3.1-8b", "h100", gpus=8, zero=3, seq_len=8192, recompute="full")
>>> step.fits, step.components["parameters"]
(True, 2007565312)
>>> memcalc.size_serving("llama-3.1-8b", "h100", engine="vllm", context=32768).to_dict()["capacity"]["max_batch"] > 10
True
"""

from typing import Any

__version__ = "0.1.0"

# Module → what it gives to the public, `name=attribute` where the two differ. A name is imported when it is first asked for,
# so that `import memcalc` costs nothing. `__init__.pyi` says the same to type checkers; tests/test_public.py writes it.
_HOMES = {
    "memcalc.errors": "InputError MemcalcError Unsupported",
    "memcalc.specs.spec": "SpecError",
    "memcalc.caches": "clear_caches",
    "memcalc.specs.training": "Training",
    "memcalc.specs.parallelism": "Parallelism",
    "memcalc.specs.serving": "Serving",
    "memcalc.specs.budget": "Budget",
    "memcalc.specs.scaling": "ScalingQuestion",
    "memcalc.specs.sizing": "Compute Limits Scenario",
    "memcalc.specs.hardware": "Accelerator",
    "memcalc.specs.runs": "TrainingRun",
    "memcalc.specs.measured": "Measured",
    "memcalc.specs.served": "Served",
    "memcalc.blocks.architecture": "Architecture",
    "memcalc.dtypes": "NumberFormat number_format",
    "memcalc.formulas.engines": "Engine",
    "memcalc.formulas.optimizer_states": "Optimizer",
    "memcalc.formulas.optimizers": "optimizer",
    "memcalc.formulas.scaling_laws": "Law law",
    "memcalc.formulas.serving_engines": "ServingEngine",
    "memcalc.readers.catalogue": "accelerator",
    "memcalc.readers.hf": "read_config",
    "memcalc.readers.listings": "engines formats gpus laws models optimizers runs serving_engines",
    "memcalc.readers.models": "Model inspect=read_contents read_model",
    "memcalc.readers.runs": "training_run",
    "memcalc.estimates.explanation": "Explanation",
    "memcalc.estimates.compute.budget": "estimate_budget=estimate",
    "memcalc.estimates.compute.budget_estimate": "BudgetEstimate",
    "memcalc.estimates.checking": "Check Outcome",
    "memcalc.estimates.compute.scaling": "ScalingAnswer estimate_scaling=estimate",
    "memcalc.estimates.serving.capacity": "Capacity ServingEstimate",
    "memcalc.estimates.serving.estimate": "estimate_serving=estimate",
    "memcalc.estimates.serving.speed": "Speed",
    "memcalc.estimates.training.estimate": "TrainingEstimate estimate_parameters estimate_training=estimate",
    "memcalc.sizing.budget": "SizedBudget size_budget",
    "memcalc.sizing.checking": "check",
    "memcalc.sizing.comparing": "SizedComparison compare compare_files",
    "memcalc.estimates.comparison": "ComparedCase SideBySide",
    "memcalc.sizing.explaining.explain": "explain",
    "memcalc.sizing.planning": "SizedPlan plan_training",
    "memcalc.sizing.planning_serving": "SizedServicePlan plan_serving",
    "memcalc.sizing.scaling": "SizedScaling chinchilla",
    "memcalc.sizing.serving": "SizedServing size_serving",
    "memcalc.sizing.training": "SizedTraining size_training",
    "memcalc.sizing.validation": "Validated validate",
    "memcalc.sizing.verifying": "SizedLog verify",
}
_PUBLIC = {
    name: (module, attribute or name)
    for module, words in _HOMES.items()
    for name, _, attribute in (word.partition("=") for word in words.split())
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'memcalc' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _PUBLIC[name]
    found = globals()[name] = getattr(import_module(module), attribute)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
