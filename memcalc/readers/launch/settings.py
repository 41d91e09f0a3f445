"""Facts → settings of memcalc, each with the facts that it is made of; what cannot be made of them is told or asked for."""

from typing import Any

from memcalc.frozen import NamedTuple
from memcalc.readers.launch.job import Job

ASKED = {"model": "MODEL", "gpus": "--gpus", "micro_batch": "--micro-batch", "seq_len": "--seq-len", "precision": "--precision",
         "optimizer": "--optimizer", "pp": "--pp (how many GPUs share it) or a machine (--gpu A+B)"}  # fmt: skip


# Facts that are settings by another name: what to ask for where a file leaves them open
FIELDS = {"processes": "gpus", "nodes": "gpus", "gpus_per_node": "gpus", "chunked_prefill": "max_batched_tokens",
    "sequences": "slots",
          "mem_fraction_static": "gpu_memory_utilization", "kv_free_fraction": "gpu_memory_utilization",
          "ubatch": "max_batched_tokens",
          "max_batch": "max_sequences", "zero_stage": "zero", "strategy": "zero", "quantization": "weights", "dtype": "weights",
          "global_batch": "grad_accum", "kv_dtype_k": "cache_type_k", "kv_dtype_v": "cache_type_v",
          "cpu_moe_layers": "n_cpu_moe",
          "model_dtype": "precision", "quantization_bit": "method"}  # fmt: skip


class Setting(NamedTuple):
    """A field of a spec, its value, and the facts that say so."""

    value: Any
    facts: tuple[str, ...]


class Making:
    """Settings as they are made."""

    def __init__(self, job: Job) -> None:
        self.job, self.facts = job, job.reading.facts
        self.settings: dict[str, Setting] = {}
        self.warnings: list[str] = []
        self.asks: list[str] = []

    def value(self, name: str) -> Any:
        """Of a fact; None where there is none or it says "auto"."""
        fact = self.facts.get(name)
        return None if fact is None or fact.value == "auto" else fact.value

    def set(self, field: str, value: Any, *facts: str) -> None:
        if value is not None:
            self.settings[field] = Setting(value, tuple(name for name in facts if name in self.facts))

    def copy(self, *pairs: str) -> None:
        """Facts that are settings as they are: `fact` or `fact=field`."""
        for pair in pairs:
            fact, _, field = pair.partition("=")
            self.set(field or fact, self.value(fact), fact)

    def warn(self, text: str, *facts: str) -> None:
        places = ", ".join(dict.fromkeys(self.facts[name].place for name in facts if name in self.facts))
        self.warnings.append(f"{places}: {text}" if places else text)

    def ask(self, *names: str) -> None:
        self.asks += [name for name in names if name not in self.asks]
