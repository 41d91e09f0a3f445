"""What writers of launch files have in common: the settings of a layout, and values as YAML, TOML and arguments spell them."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from memcalc.frozen import NamedTuple


class Written(NamedTuple):
    """A file to run a layout with."""

    file: str
    text: str


class Launch(NamedTuple):
    """A layout to be launched: settings as `train` takes them."""

    model: str
    settings: Mapping[str, Any]
    gpus_per_node: int = 8

    def get(self, name: str, default: Any = None) -> Any:
        value = self.settings.get(name)
        return default if value is None else value

    @property
    def engine(self) -> str:
        return str(self.get("engine", "deepspeed" if "zero" in self.settings else "torch"))

    @property
    def gpus(self) -> int:
        return int(self.get("gpus", 1))

    @property
    def nodes(self) -> int:
        return -(-self.gpus // self.gpus_per_node)

    @property
    def on_node(self) -> int:
        return min(self.gpus, self.gpus_per_node)

    @property
    def copies(self) -> int:
        """Data-parallel ranks."""
        return self.gpus // int(self.get("tp", 1) * self.get("pp", 1) * self.get("cp", 1))

    @property
    def global_batch(self) -> int:
        return int(self.get("micro_batch", 1) * self.get("grad_accum", 1) * self.copies)

    @property
    def adapts(self) -> bool:
        return str(self.get("method", "full")) != "full"


def torchrun(launch: Launch, script: str, arguments: Sequence[str]) -> str:
    """torchrun on every node; a second line tells the first node from the others."""
    words = ["torchrun", f"--nproc-per-node={launch.on_node}"]
    if launch.nodes > 1:
        words += [f"--nnodes={launch.nodes}", "--node-rank=$NODE_RANK", "--rdzv-endpoint=$MASTER_ADDR:29500"]
    return command([*words, script], arguments)


def command(words: Sequence[str], arguments: Sequence[str]) -> str:
    """A shell script of one command, an argument a line."""
    return "#!/bin/sh\n" + " \\\n  ".join([" ".join(words), *arguments]) + "\n"


def argument(name: str, value: Any = True) -> str:
    """--name value; a flag where it is true."""
    return f"--{name}" if value is True else f"--{name} {shlex.quote(str(value))}"


def yaml(values: Mapping[str, Any], indent: int = 0) -> str:
    """A mapping of plain values and mappings, as YAML; text is quoted as JSON, which YAML reads."""
    out = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            out.append(f"{' ' * indent}{key}:\n{yaml(value, indent + 2)}")
        else:
            out.append(f"{' ' * indent}{key}: {scalar(value)}\n")
    return "".join(out)


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of plain values, as TOML; the table "" stands first."""
    parts = []
    for name, values in tables.items():
        head = f"[{name}]\n" if name else ""
        parts.append(head + "".join(f"{key} = {scalar(value)}\n" for key, value in values.items()))
    return "\n".join(part for part in parts if part)


def scalar(value: Any) -> str:
    """A plain value, the same in JSON, YAML and TOML."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=True)
