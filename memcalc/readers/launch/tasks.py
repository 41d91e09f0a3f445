"""Tasks of SkyPilot (sky/task.py) and dstack (dstack/_internal/core/models/configurations.py): a script beside its machines."""

import re
from collections.abc import Callable, Iterator

from memcalc.readers.launch.facts import Fact
from memcalc.readers.launch.job import Job
from memcalc.readers.launch.nodes import Entry, Listed, Mapped, Node, Scalar, at, text_at

GPU = re.compile(r"(?P<name>[A-Za-z][\w.-]*)(?::(?P<memory>\d+GB?))?(?::(?P<count>\d+))?$")
# What SkyPilot tells its script of its machines (docs: environment variables)
NODES, PER_NODE = "SKYPILOT_NUM_NODES", "SKYPILOT_NUM_GPUS_PER_NODE"


def is_task(node: Node) -> bool:
    return isinstance(at(node, "resources"), Mapped) and (at(node, "run") is not None or at(node, "commands") is not None)


def task_jobs(node: Node, file: str, scripts: Callable[[str, int], list[Job]]) -> Iterator[Job]:
    """What a task's script starts, with the accelerators of its machines."""
    run = at(node, "run") or at(node, "commands")
    items = run.items if isinstance(run, Listed) else [run]
    text = "\n".join(item.text or "" for item in items if isinstance(item, Scalar))
    gpus, line = _accelerators(node)
    found = GPU.match(gpus)
    count = int(found["count"] or 1) if found else 0
    nodes = text_at(node, "num_nodes") or text_at(node, "nodes") or "1"
    told = {**_variables(node), NODES: nodes, "SKYPILOT_NODE_RANK": "0", **({PER_NODE: str(count)} if count else {})}
    exports = "\n".join(f"export {name}='{value}'" for name, value in told.items() if re.fullmatch(r"[\w./:@-]*", value))
    lines_before = exports.count("\n") + 1
    start = (run.line if isinstance(run, Scalar) else line) - lines_before + 1
    for job in scripts(f"{exports}\n{text}", start):
        reading = job.reading
        if found:
            entry = Entry("resources.accelerators", gpus, line, file)
            reading.facts.setdefault("gpu", Fact(found["name"].lower(), entry))
            reading.facts.setdefault("gpus_per_node", Fact(count, entry))
        if nodes.isdigit():
            reading.facts.setdefault("nodes", Fact(int(nodes), None, "num_nodes"))
        yield job._replace(file=file, name=text_at(node, "name") or job.name)


def _variables(node: Node) -> dict[str, str]:
    table = at(node, "envs") or at(node, "env")
    items = table.items.items() if isinstance(table, Mapped) else ()
    return {name: value.text or "" for name, value in items if isinstance(value, Scalar) and re.fullmatch(r"\w+", name)}


def _accelerators(node: Node) -> tuple[str, int]:
    """resources.accelerators (SkyPilot: H100:8, or a table) or resources.gpu (dstack)."""
    for key in ("accelerators", "gpu"):
        found = at(node, "resources", key)
        if isinstance(found, Scalar):
            return (found.text or "").strip(), found.line
        if isinstance(found, Mapped) and found.items:
            name = text_at(found, "name") or next(iter(found.items))
            count = text_at(found, "count") or text_at(found, name)
            return f"{name}:{count}" if count else name, found.line
    return "", node.line
