"""How long `memcalc plan train` searches, in process, on one core: `python benchmarks/plans.py`.

The goal is 50,000 candidates in 3 s or less; 16,000 GPUs are no slower than 16 a candidate.
"""

import time
from typing import Any

from memcalc.sizing.planning import plan_training

CASES: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("qwen3-235b-a22b", "h100", 512, {"engine": "megatron", "seq_len": 4096, "global_batch": 2048}),
    ("qwen3-235b-a22b", "h100", 1024, {"engine": "megatron", "seq_len": 4096, "global_batch": 4096}),
    ("deepseek-v3", "h100", 2048, {"engine": "megatron", "seq_len": 4096, "global_batch": 8192}),
    ("llama-3.1-405b", "h100", 1024, {"engine": "any", "seq_len": 8192, "global_batch": 2048}),
    ("llama-3.1-70b", "h100", 16, {"engine": "megatron", "seq_len": 8192, "global_batch": 1024}),
    ("llama-3.1-70b", "h100", 16384, {"engine": "megatron", "seq_len": 8192, "global_batch": 16384}),
    ("jamba-1.5-large", "h100", 64, {"seq_len": 4096}),
    ("llama-3.1-8b", "h100", 8, {"seq_len": 4096}),
)


def main() -> None:
    print(f"{'model':18} {'GPUs':>7} {'layouts':>8} {'estimated':>12} {'CPU s':>6} {'s a 50,000':>10}")
    for model, gpu, gpus, settings in CASES:
        start = time.process_time()
        plan = plan_training(model, gpu, gpus, **settings).plan
        taken = time.process_time() - start
        print(
            f"{model:18} {gpus:7,} {plan.candidates:8,} {plan.estimated:12,} {taken:6.2f} {taken / plan.candidates * 5e4:10.2f}"
        )


if __name__ == "__main__":
    main()
