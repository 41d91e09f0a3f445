"""What kind of launch file a text is, from what it holds; names of files say nothing."""

import re
from collections.abc import Collection

from memcalc.readers.launch.kind import Kind
from memcalc.readers.launch.kinds.accelerate import ACCELERATE
from memcalc.readers.launch.kinds.axolotl import AXOLOTL
from memcalc.readers.launch.kinds.bridge import BRIDGE
from memcalc.readers.launch.kinds.deepspeed import DEEPSPEED
from memcalc.readers.launch.kinds.litgpt import LITGPT
from memcalc.readers.launch.kinds.llamafactory import LLAMAFACTORY
from memcalc.readers.launch.kinds.llamafactory_v1 import LLAMAFACTORY_V1
from memcalc.readers.launch.kinds.megatron import MEGATRON
from memcalc.readers.launch.kinds.nanotron import NANOTRON
from memcalc.readers.launch.kinds.nemo_rl import NEMO_RL
from memcalc.readers.launch.kinds.sglang import SGLANG
from memcalc.readers.launch.kinds.swift import SWIFT
from memcalc.readers.launch.kinds.torchtitan import TORCHTITAN
from memcalc.readers.launch.kinds.torchtune import TORCHTUNE
from memcalc.readers.launch.kinds.transformers import TRANSFORMERS, TRL
from memcalc.readers.launch.kinds.trtllm import TRTLLM
from memcalc.readers.launch.kinds.verl import VERL
from memcalc.readers.launch.kinds.vllm import VLLM
from memcalc.readers.launch.meanings import folded
from memcalc.readers.launch.nodes import Entry

STRUCTURED = (NEMO_RL, DEEPSPEED, ACCELERATE, TORCHTUNE, TORCHTITAN, NANOTRON, LITGPT, VERL, AXOLOTL, LLAMAFACTORY,
    LLAMAFACTORY_V1, SWIFT, TRL,
    TRANSFORMERS,
    BRIDGE,
    SGLANG, VLLM,
              TRTLLM, MEGATRON)  # fmt: skip
TITLES = ", ".join(dict.fromkeys(kind.title for kind in STRUCTURED))
MODELFILE = re.compile(r"^[ \t]*FROM\s+\S+", re.MULTILINE | re.IGNORECASE)
PARAMETER = re.compile(r"^[ \t]*(PARAMETER|TEMPLATE|SYSTEM|ADAPTER|MESSAGE|LICENSE)\b", re.MULTILINE | re.IGNORECASE)
INSTRUCTION = re.compile(r"(\s|#[^\n]*\n)*(FROM|PARAMETER|TEMPLATE|SYSTEM|ADAPTER|MESSAGE|LICENSE)\s", re.IGNORECASE)
TOML = re.compile(r"^[ \t]*\[[\w.]+\]\s*(#.*)?$", re.MULTILINE)
SHELL = re.compile(
    r"^#!.*sh\b|^#SBATCH|\\\s*$|^[ \t]*(export|set|source|if|for)\s|^[ \t]*[A-Za-z_]\w*=|"
    r"^[ \t]*(python3?|torchrun|accelerate|deepspeed|srun"
    r"|vllm|trtllm-serve|llama-server|\./\S+|docker|swift|megatron|trl|tune|axolotl|llamafactory-cli|mpirun|ray|uv|sbatch|sglang)\s",
    re.MULTILINE,
)


def structure(text: str) -> str:
    """json, toml, modelfile, shell or yaml."""
    head = text.lstrip("\ufeff \t\r\n")
    if head.startswith("{") and not head.startswith(("{{", "{%")):
        return "json"
    if (head.startswith("#!") and "sh" in head.partition("\n")[0]) or re.search(r"^#SBATCH", text, re.MULTILINE):
        return "shell"
    if (
        INSTRUCTION.match(text)
        and MODELFILE.search(text)
        and (PARAMETER.search(text) or len(text) < 400)
        and "RUN " not in text
    ):
        return "modelfile"
    if TOML.search(text) and re.search(r"^[ \t]*[\w.\"'-]+\s*=", text, re.MULTILINE) and not SHELL_ONLY.search(text):
        return "toml"
    outer = [line for line in text.splitlines() if line[:1] not in ("", " ", "#", "\t")]
    if outer and all(map(OUTER.match, outer)):  # whatever stands in its blocks of text
        return "yaml"
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    keyed = sum(bool(re.match(r"\s*(- )*['\"]?[\w./<-]+['\"]?\s*:(\s|$)|\s*- |---", line)) for line in lines)
    if lines and keyed >= 0.5 * len(lines) and re.match(r"\s*(---|- |%YAML|\{\{|[\"']?[\w./-]+[\"']?\s*:)", lines[0]):
        return "yaml"
    return "shell" if SHELL.search(text) else "yaml"


OUTER = re.compile(r"([\"']?[\w./-]+[\"']?\s*:(\s|$)|- |---|\.\.\.|%YAML|\?|[}\]])")  # of lines that are not indented
SHELL_ONLY = re.compile(r"^[ \t]*(if \[|fi\b|done\b|export )|\$\{|<<-?[ \t]*['\"]?[A-Za-z_]\w*['\"]?[ \t]*$", re.MULTILINE)


def kind_of(keys: Collection[str]) -> Kind | None:
    """The kind that has these keys (dotted paths)."""
    plain = {folded(key) for key in keys}
    return next((kind for kind in STRUCTURED if kind.is_one(plain)), None)


def keys_of(entries: Collection[Entry]) -> list[str]:
    return [entry.key for entry in entries]
