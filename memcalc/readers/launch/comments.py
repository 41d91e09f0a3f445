"""What only a comment says: devices. A hint, never a fact."""

import re

from memcalc.readers.launch.facts import Fact
from memcalc.readers.launch.reading import Reading

COUNTED = re.compile(
    r"--nproc[_-]per[_-]node[= ]+(\d+)|--num[_-]processes[= ]+(\d+)"
    r"|\b(\d{1,5}|one|two|three|four|eight)\s*(?:x\s*)?(?:(?!Gi?B\b)[\w.-]+\s+)?"
    r"(?:GPUs?|cards?|devices?|[HBA][12]00s?|L40S?|V100s?|H20s?|MI300X?s?)\b",
    re.IGNORECASE,
)
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "eight": 8}
GPU = re.compile(r"\b(H100|H200|A100|B200|B300|GB200|L40S|V100|MI300X|H20|A10G?|L4|T4)s?\b", re.IGNORECASE)


def hints_in(text: str, file: str, reading: Reading) -> list[str]:
    """Devices and accelerators that comments of a text speak of, where no key says how many."""
    out = []
    for number, line in enumerate(text.splitlines()[:2000], 1):
        _, mark, comment = line.partition("#")
        if not mark or line.startswith(("#!", "#SBATCH")):
            continue
        for found in COUNTED.finditer(comment):
            word = next((part for part in found.groups() if part), "")
            count = NUMBERS.get(word.lower()) or (int(word) if word.isdigit() else 0)
            if count and "gpus_in_comment" not in reading.facts:
                reading.facts["gpus_in_comment"] = Fact(count, None, f"a comment, {file}:{number}")
                out.append(f"{file}:{number}: a comment speaks of {count} GPU{'s' * (count > 1)}: --gpus {count}")
        gpu = GPU.search(comment)
        if gpu and "gpu_in_comment" not in reading.facts:
            reading.facts["gpu_in_comment"] = Fact(gpu[1].upper(), None, f"a comment, {file}:{number}")
    return out


TRAINER = re.compile(r"\b(SFT|DPO|ORPO|KTO|GRPO|RLOO|PPO|Reward|CPO)Trainer\b|\btrl\s+(sft|dpo|kto|grpo|rloo|reward|orpo)\b")


def named_in_comments(text: str, file: str, reading: Reading) -> None:
    """The trainer of TRL that a comment names, where no key says which: keys of several are the same."""
    if "algorithm" in reading.facts or ("max_steps" not in text and "per_device_train_batch_size" not in text):
        return
    for number, line in enumerate(text.splitlines()[:2000], 1):
        _, mark, comment = line.partition("#")
        if mark and (found := TRAINER.search(comment)):
            reading.facts["algorithm"] = Fact((found[1] or found[2]).lower(), None, f"a comment, {file}:{number}")
            return
