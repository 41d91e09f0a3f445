"""Which program a command line starts, what its launcher says, and where the program's own words begin."""

import re
from collections.abc import Sequence

from memcalc.frozen import NamedTuple
from memcalc.readers.launch.kind import Kind
from memcalc.readers.launch.kinds.accelerate import FSDP
from memcalc.readers.launch.kinds.accelerate import KEYS as ACCELERATE_KEYS
from memcalc.readers.launch.kinds.axolotl import AXOLOTL
from memcalc.readers.launch.kinds.bridge import BRIDGE
from memcalc.readers.launch.kinds.llama_server import LLAMA_SERVER
from memcalc.readers.launch.kinds.llamafactory import LLAMAFACTORY
from memcalc.readers.launch.kinds.megatron import MEGATRON
from memcalc.readers.launch.kinds.nanotron import NANOTRON
from memcalc.readers.launch.kinds.openrlhf import OPENRLHF
from memcalc.readers.launch.kinds.sglang import SGLANG
from memcalc.readers.launch.kinds.slime import SLIME
from memcalc.readers.launch.kinds.swift import SWIFT
from memcalc.readers.launch.kinds.swift_serve import SWIFT_SERVE
from memcalc.readers.launch.kinds.torchtitan import TORCHTITAN
from memcalc.readers.launch.kinds.torchtune import TORCHTUNE
from memcalc.readers.launch.kinds.transformers import TRANSFORMERS, TRL
from memcalc.readers.launch.kinds.trtllm import TRTLLM
from memcalc.readers.launch.kinds.verl import VERL
from memcalc.readers.launch.kinds.verl_sft import VERL_SFT
from memcalc.readers.launch.kinds.vllm import IDLE, VLLM
from memcalc.readers.launch.meanings import By, KeyTable, alike, folded
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.shell.run import Word
from memcalc.readers.launch.values import Read


class Program(NamedTuple):
    """Words that name a program (each a pattern of one word, paths left out) and its kind."""

    words: tuple[str, ...]
    kind: Kind


PROGRAMS = (
    Program(("vllm", "serve"), VLLM), Program((r"vllm\.entrypoints\..*api_server",), VLLM), Program(("api_server.py",), VLLM),
    Program((r"sglang\.launch_server",), SGLANG), Program(("sglang", "serve"), SGLANG),
    Program(("llama-server(\\.exe)?",), LLAMA_SERVER), Program(("llama-cli",), LLAMA_SERVER),
    Program(("trtllm-serve", "serve"), TRTLLM),
    Program(("trtllm-serve",), TRTLLM), Program(("trl", "(sft|dpo|kto|grpo|rloo|reward|orpo)"), TRL),
    Program(("(swift|megatron)", "(sft|pt|rlhf)"), SWIFT), Program((r".*swift/cli/(_megatron/)?(sft|pt|rlhf)\.py",), SWIFT),
    Program(("swift", "(infer|deploy)"), SWIFT_SERVE),
    Program(("llamafactory-cli|lmf", "train"), LLAMAFACTORY), Program(("axolotl", "train"), AXOLOTL),
    Program((r"axolotl\.cli\.train",), AXOLOTL), Program(("tune", "run"), TORCHTUNE),
    Program((r"verl\.trainer\..*sft.*",), VERL_SFT), Program((r"(verl|recipe)\..*main.*",), VERL),
        Program((r"openrlhf\.cli\..*",), OPENRLHF),
)  # fmt: skip
FIRST = re.compile("|".join(f"(?:{program.words[0]})" for program in PROGRAMS))
IMAGES = ((r".*vllm.*", VLLM), (r".*sglang.*", SGLANG), (r".*llama\.cpp.*server.*|.*llama-server.*", LLAMA_SERVER),
          (r".*(tensorrt-llm|trtllm).*", TRTLLM))  # fmt: skip
BY_OPTIONS = (VERL, VERL_SFT, SLIME, BRIDGE, OPENRLHF, MEGATRON, LLAMAFACTORY, TRANSFORMERS, SGLANG, TRTLLM, VLLM, LLAMA_SERVER)
SERVED = 3  # options of a server, of which a program that nobody knows must have so many
# Programs that share options with a trainer and train nothing
IDLE_SCRIPTS = re.compile(
    r"(.*/)?(\w*(generat(e|ion)|inference|export|convert|conversion|preprocess|prune|quantize|extract|merge)\w*|eval\w*|\w*_server)(\.py)?$"
)
FILES_OF = (TORCHTITAN, NANOTRON)
LAUNCHERS = re.compile(
    r"(.*/)?(torchrun|accelerate|launch|deepspeed|python[\d.]*|srun|mpirun|mpiexec|torch\.distributed\.(run|launch)|uv)$"
)


def _included(value: Value) -> dict[str, Read]:
    """localhost:0,1@other:0,1 → nodes and devices of each."""
    hosts = [part.partition(":")[2] for part in str(value).split("@")]
    counts = [len(part.split(",")) for part in hosts if part]
    return {"gpus_per_node": counts[0], "nodes": len(counts)} if counts else {}


LAUNCHER_KEYS: KeyTable = {
    **ACCELERATE_KEYS, **FSDP,
    **alike("nproc_per_node nproc_per_gpu", "gpus_per_node"), **alike("nnodes num_nodes num_machines N nodes", "nodes"),
    "num_gpus": "gpus_per_node", "gpus_per_node": "gpus_per_node", "num_processes": "processes", "gpus": "gpus_per_node",
    "include": By(_included), "ntasks_per_node": IDLE,
    "gres": By(lambda value: {"gpus_per_node": int(found[1])} if (found := re.search(r"gpu:(?:[\w.-]+:)?(\d+)",
        str(value))) else {}),
    "fsdp": By(lambda value: {"strategy": "fsdp1"} if str(value).lower() == "true" else {}),
    **alike("use_deepspeed", By(lambda value: {"strategy": "deepspeed"})),
    **alike("use_fsdp", By(lambda value: {"strategy": "fsdp1"})),
    "*": IDLE,
}  # fmt: skip


class FoundProgram(NamedTuple):
    """A program in a command line: its kind, its launcher's words, its own, and what it is called."""

    kind: Kind
    launcher: Sequence[Word]
    words: Sequence[Word]
    name: str


def find(words: Sequence[Word]) -> FoundProgram | None:
    """The program that a command starts, if it is one that has launch arguments of a kind we know."""
    texts = [word.text for word in words]
    bare = ["" if "\n" in text else text if "swift/cli" in text else text.rpartition("/")[2] for text in texts]
    places = [at for at, text in enumerate(bare) if FIRST.fullmatch(text)]
    for program in PROGRAMS if places else ():
        for at in places:
            part = bare[at : at + len(program.words)]
            if len(part) == len(program.words) and all(map(re.fullmatch, program.words, part)):
                name = " ".join(part) if program.kind in (SWIFT, TRL) or len(part) > 1 else part[0]
                own, launcher = _apart(program.kind, words[at + len(part) :])
                return FoundProgram(
                    program.kind, [*words[:at], *launcher], own, name.removesuffix(".py").replace("swift/cli/", "swift ")
                )
    if any(text.rpartition("/")[2] in ("docker", "podman", "nerdctl") for text in texts[:4]):
        for pattern, kind in IMAGES:
            for at, text in enumerate(texts):
                if (
                    at > 1
                    and "=" not in text
                    and not text.startswith("-")
                    and ("/" in text or ":" in text)
                    and re.fullmatch(pattern, text)
                ):
                    return FoundProgram(kind, words[:at], words[at + 1 :], text)
    keys = {folded(text.partition("=")[0].lstrip("+")) for text in texts if text.startswith("-") or "=" in text}
    known = next((kind for kind in BY_OPTIONS if kind.is_one(keys)), None)
    if known is None or len(keys) < 2 or (known.task == "infer" and len(keys & {*known.keys[0]}) < SERVED):
        return None
    at = script_at(texts)
    if at and known.task == "train" and IDLE_SCRIPTS.match(texts[at]):
        return None
    return FoundProgram(known, words[:at], words[at + 1 :] if at else words, _submitted(texts, at))


def _apart(kind: Kind, words: Sequence[Word]) -> tuple[Sequence[Word], Sequence[Word]]:
    """A program's own words, and those behind -- that it hands to its launcher (axolotl/cli/main.py, train)."""
    at = next((at for at, word in enumerate(words) if word.text == "--"), len(words)) if kind is AXOLOTL else len(words)
    return words[:at], words[at + 1 :]


def _submitted(texts: Sequence[str], at: int) -> str:
    """The script that a command starts: of one that submits another, behind `--`, itself."""
    if not at:
        return ""
    mark = texts.index("--") if "--" in texts[:at] else 0
    return next((text for text in texts[:mark] if text.endswith(".py") and "=" not in text), texts[at])


def script_at(texts: Sequence[str]) -> int:
    """Where the script stands: the first .py behind the last launcher, or what follows -m; 0 where there is none."""
    last = max((at for at, text in enumerate(texts) if LAUNCHERS.match(text)), default=-1)
    for at in range(last + 1, len(texts)):
        if texts[at].endswith(".py") and "=" not in texts[at]:
            return at
        if texts[at - 1] == "-m" and at:
            if LAUNCHERS.match(texts[at]):
                continue
            return at
    return 0
