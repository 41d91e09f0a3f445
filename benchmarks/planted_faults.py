"""Small faults, planted one at a time, that the tests must notice: `python benchmarks/planted_faults.py [NUMBER…]`.

Chosen by reading for plausible slips: a wrong edge, a key that holds its neighbour's figure, a unit that is lost. Each is
planted in a copy of the checkout, where the tests named beside it run. The exit code is 1 when one survives, or when the code
it stands in has moved on (then the table below needs its new place).
"""

import sys
from typing import NamedTuple

from changed_copy import ROOT, changed_copy

GOLDEN = "tests/golden"


class Fault(NamedTuple):
    """A file's text, what it is replaced with, and the tests that must notice."""

    number: int
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = (GOLDEN,)


FAULTS = (
    Fault(1, "a pipeline stage receives one tensor, not two", "memcalc/formulas/serving.py",
          "return 2 * tokens * hidden * bytes_per_value", "return tokens * hidden * bytes_per_value"),
    Fault(2, "the interleaved schedule holds one chunk more", "memcalc/estimates/training/activations.py",
          "(v - 1) * p + 1, accumulated", "(v - 1) * p + 2, accumulated"),
    Fault(3, "gradients are off the GPU from ZeRO 1", "memcalc/estimates/training/sharding/zero.py",
          'optimizer != "gpu" and self.stage >= 2', 'optimizer != "gpu" and self.stage >= 1'),
    Fault(4, "a tied head is not copied to the last stage", "memcalc/estimates/placement.py",
          "if last and not first and architecture.tied:", "if last and first and architecture.tied:"),
    Fault(5, "one block a sequence in vLLM's hybrids, not two", "memcalc/estimates/serving/cache.py",
          "RECURRENT_BLOCKS = 2", "RECURRENT_BLOCKS = 1"),
    Fault(6, "SGLang's sliding layers have room for all tokens, not for 4 in 5", "memcalc/estimates/serving/estimate.py",
          "WINDOW_SHARE = (4, 5)", "WINDOW_SHARE = (1, 1)"),
    Fault(7, "the longest context forgets the answer where samples share a prompt", "memcalc/estimates/serving/demand.py",
          "self.prefix + found + self.own", "self.prefix + found"),
    Fault(8, "longrope keeps one rotary table, not two", "memcalc/readers/hf/rotary.py",
          "return start + 1 if kind in BOTH", "return start if kind in BOTH"),
    Fault(9, "Qwen 2 has windows from one layer later", "memcalc/readers/hf/decoders/dense.py",
          "None if i < first else window", "None if i <= first else window"),
    Fault(10, "compressed-tensors' padded codes are counted as unpadded", "memcalc/readers/weights/packing.py",
          "elements * (width // bits) if padded", "elements * width // bits if padded", ("tests/readers/test_weights.py",)),
    Fault(11, "gpu.headroom is that of the reserved bytes", "memcalc/report/training.py",
          "headroom = gpu.usable - found.device", "headroom = gpu.usable - found.reserved"),
    Fault(12, "capacity.max_context holds kv_tokens", "memcalc/report/serving.py",
          '"max_context": capacity.max_context', '"max_context": capacity.kv_tokens'),
    Fault(13, "ranks[].peak holds the steady states", "memcalc/report/training.py",
          '"peak": rank.peak, "peak_moment"', '"peak": rank.steady, "peak_moment"'),
    Fault(14, "a suggestion's flags forget the loss that its figures have", "memcalc/sizing/asked.py",
          "for name, value in (pinned | changes).items()}),", 'for name, value in changes.items() if name != "loss"}),',
          ("tests/cli/test_suggestions.py",)),
    Fault(15, "all-to-all without (n - 1) / n", "memcalc/formulas/roofline.py",
          "return 2 * (ranks - 1) / ranks * copies", "return 2 * copies"),
    Fault(16, "check prices days for one GPU", "memcalc/sizing/checking.py",
          "_computed(scenario, model, gpu, p.gpus, step", "_computed(scenario, model, gpu, 1, step"),
    Fault(17, "FSDP's backward gathers one layer, not two", "memcalc/estimates/training/timeline.py",
          "kind.gathered, 2 if any(before)", "kind.gathered, 1 if any(before)"),
    Fault(18, "shards of experts forget etp", "memcalc/specs/parallelism.py",
          "self.gpus // (self.ep * self.etp * self.pp)", "self.gpus // (self.ep * self.pp)"),
    Fault(19, "accelerators are rounded, not rounded up", "memcalc/estimates/compute/budget.py",
          "max(1, int(-(-round(number, 6) // 1)))", "max(1, round(number))"),
    Fault(20, "the CSV heading of shares loses its unit", "memcalc/report/csv.py",
          '"percent": " [share]", ', ""),
    Fault(21, "the for-loop AdamW holds one temporary, not two", "memcalc/formulas/model_states.py",
          "return 2 * largest", "return largest"),
    Fault(22, "per_gpu.device leaves out the communicator", "memcalc/estimates/training/estimate.py",
          "entry.bytes for entry in self.overhead)", "entry.bytes for entry in self.overhead[:2])"),
)  # fmt: skip


def main(numbers: list[str]) -> int:
    wanted = [fault for fault in FAULTS if not numbers or str(fault.number) in numbers]
    noticed = 0
    with changed_copy() as copy:
        for tests in sorted({fault.tests for fault in wanted}):
            clean = copy.tested(tests)
            if clean.killed:
                print(f"{' '.join(tests)} fails without any fault: {clean.by}")
                return 1
        for fault in wanted:
            text = (ROOT / fault.file).read_text(encoding="utf-8") if (ROOT / fault.file).exists() else ""
            if text.count(fault.old) != 1:
                verdict = f"has moved: {fault.file} has {text.count(fault.old)} × {fault.old!r}"
            else:
                outcome = copy.outcome(fault.file, text.replace(fault.old, fault.new), fault.tests)
                noticed += outcome.killed
                verdict = f"killed by {outcome.by}" if outcome.killed else "SURVIVES"
            print(f"{fault.number:2}  {fault.what}: {verdict}", flush=True)
    print(f"{noticed} of {len(wanted)} killed")
    return int(noticed < len(wanted))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
