"""srt-slurm's YAML (NVIDIA/srt-slurm, src/srtctl/core/schema.py): servers of three engines, by role, beside their machines."""

import re
from collections.abc import Iterator

from memcalc.readers.launch.facts import Fact
from memcalc.readers.launch.job import Job
from memcalc.readers.launch.kind import Kind
from memcalc.readers.launch.kinds.sglang import SGLANG
from memcalc.readers.launch.kinds.trtllm import TRTLLM
from memcalc.readers.launch.kinds.vllm import VLLM
from memcalc.readers.launch.meanings import Ignored, KeyTable
from memcalc.readers.launch.nodes import Entry, Listed, Mapped, Node, at, entries, text_at
from memcalc.readers.launch.reading import Reading, read_entries, take
from memcalc.readers.launch.values import count

ENGINES: dict[str, Kind] = {"sglang": SGLANG, "vllm": VLLM, "trtllm": TRTLLM}
# A role's name in `resources`, and the side of disaggregated serving that it is
ROLES = {"prefill": ("prefill", "prefill"), "decode": ("decode", "decode"), "aggregated": ("agg", "")}
PER_NODE = 4  # ResourceConfig.gpus_per_node
VARIANT = re.compile(r"(zip_)?override_(\w+)")
VERSION = re.compile(r"(?:sglang|vllm-openai|vllm|tensorrt-llm/release):v?(\d[\w.]*)")
MOUNT = Ignored("the place where the model is mounted; model.path says which")
HINT = Ignored("what the checkpoint is stored in, which its name or the server's options say")
LOAD = Ignored("of the load that is tried, not of the server", True)
CLUSTER = Ignored("of the cluster, not of memory or speed that memcalc counts", True)
BESIDE: KeyTable = {"benchmark.*": LOAD, "model.precision": HINT, "*": CLUSTER}


def is_srt(node: Node) -> bool:
    """resources.gpu_type and a table of an engine by role, at the top or below `base`."""
    whole = at(node, "base") or node
    return at(whole, "resources", "gpu_type") is not None and _engine(whole) != ""


def srt_jobs(node: Node, file: str) -> Iterator[Job]:
    """A server of each role, of each variant that is submitted."""
    for suffix, whole in _variants(node):
        engine = _engine(whole)
        table = at(whole, "backend", f"{engine}_config")
        for role, server in table.items.items() if isinstance(table, Mapped) else ():
            if role in ROLES and isinstance(server, Mapped):
                yield Job(f"{role}{suffix}", file, ENGINES[engine], "srt-slurm", _reading(whole, server, role, engine, file))


def _engine(whole: Node) -> str:
    """backend.type, or the engine whose table is there: sglang where none is named (core/schema.py)."""
    named = [engine for engine in ENGINES if at(whole, "backend", f"{engine}_config") is not None]
    said = text_at(whole, "backend", "type")
    return said if said in named else named[0] if named else ""


def _variants(node: Node) -> Iterator[tuple[str, Node]]:
    """The file itself, or, where it has a `base`, what each override makes of it (docs/overrides.md)."""
    base = at(node, "base")
    if not isinstance(node, Mapped) or base is None:
        yield "", node
        return
    found = [(match, part) for key, part in node.items.items() if (match := VARIANT.fullmatch(key))]
    for match, part in found:
        rows = _zipped(part) if match[1] else [part]
        for index, row in enumerate(rows):
            yield f"-{match[2]}" + (f"-{index}" if match[1] else ""), _merged(base, row)
    if not found:
        yield "", base


def _merged(base: Node, part: Node) -> Node:
    """Tables one in the other; anything else is taken from the part."""
    if not (isinstance(base, Mapped) and isinstance(part, Mapped)):
        return part
    items = {**base.items, **{key: _merged(base.items[key], item) if key in base.items else item for key, item in
        part.items.items()}}  # fmt: skip
    return Mapped(items, {**base.lines, **part.lines}, base.line)


def _zipped(part: Node) -> list[Node]:
    """As many parts as the longest list has items: each list gives one, what is no list is in all."""
    sizes = [len(table.items) for table in _lists(part)]
    return [_picked(part, index) for index in range(max(sizes, default=1))]


def _lists(node: Node) -> Iterator[Listed]:
    if isinstance(node, Listed):
        yield node
    elif isinstance(node, Mapped):
        for item in node.items.values():
            yield from _lists(item)


def _picked(node: Node, index: int) -> Node:
    if isinstance(node, Listed):
        return node.items[min(index, len(node.items) - 1)] if node.items else node
    if isinstance(node, Mapped):
        return node._replace(items={key: _picked(item, index) for key, item in node.items.items()})
    return node


def _reading(whole: Node, server: Mapped, role: str, engine: str, file: str) -> Reading:
    """The server's own options, then what stands beside them."""
    own = [entry for entry in entries(server, file) if not _mounted(entry)]
    out = read_entries(own, *ENGINES[engine].keys)
    for entry in entries(server, file):
        if _mounted(entry):
            take(out, entry, MOUNT)
    used = _model(out, whole, server, file)
    name, side = ROLES[role]
    used |= _machines(out, whole, name, file)
    if side:
        out.facts.setdefault("role", Fact(side, Entry(role, side, server.line, file)))
    version = text_at(whole, "identity", "frameworks", {"trtllm": "tensorrt_llm"}.get(engine, engine))
    image = VERSION.search(text_at(whole, "model", "container").replace("#", "/"))
    if said := version or (image[1] if image else ""):
        take(out, Entry("model.container", said, _line(whole, "model", "container"), file), "engine_version")
    for entry in entries(whole, file):
        if entry.key not in used and not entry.key.startswith(("backend.", "identity.")):
            take(out, entry, next(meaning for key, meaning in BESIDE.items() if _matches(entry.key, key)))
    return out


def _mounted(entry: Entry) -> bool:
    plain = entry.key.replace("-", "_")
    return plain in ("model_path", "model") and isinstance(entry.value, str) and entry.value.startswith("/")


def _matches(key: str, pattern: str) -> bool:
    return key == pattern or (pattern.endswith("*") and key.startswith(pattern[:-1]))


def _model(out: Reading, whole: Node, server: Mapped, file: str) -> set[str]:
    """The checkpoint by its repository: identity.model.repo, model.path where it is one, or what the server calls it."""
    path = text_at(whole, "model", "path").removeprefix("hf:")
    served = text_at(server, "served-model-name") or text_at(server, "served_model_name")
    repo = text_at(whole, "identity", "model", "repo")
    hub = path if "/" in path and not path.startswith("/") else ""
    named = repo or hub or (served if "/" in served else "") or path or served
    key = "identity.model.repo" if repo else "model.path" if hub or named == path else "served-model-name"
    line = _line(server, key) if named == served and not hub else _line(whole, *key.split("."))
    if named:
        take(out, Entry(key, named, line, file), "model")
    return {key, "model.path", "model.container"}


def _machines(out: Reading, whole: Node, role: str, file: str) -> set[str]:
    """Accelerator, devices of a worker, and how many workers there are (ResourceConfig.gpus_per_prefill)."""

    def said(name: str) -> int:
        found = count(text) if (text := text_at(whole, "resources", name)) and text.isdigit() else 0
        return found if isinstance(found, int) else 0

    def note(name: str, fact: str, value: object) -> None:
        take(out, Entry(f"resources.{name}", str(value), _line(whole, "resources", name), file), fact)

    note("gpu_type", "gpu", re.sub(r"^nvidia[-_ ]", "", text_at(whole, "resources", "gpu_type").lower()))
    per_node = said("gpus_per_node") or PER_NODE
    nodes, workers = f"{role}_nodes", f"{role}_workers"
    each, key = said(f"gpus_per_{role}"), f"gpus_per_{role}"
    if not each and said(nodes) and said(workers):
        each, key = said(nodes) * per_node // said(workers), nodes
    note(key if each else "gpus_per_node", "gpus", each or per_node)
    if said(workers):
        note(workers, "replicas", said(workers))
    return {f"resources.{name}" for name in ("gpu_type", "gpus_per_node", f"gpus_per_{role}", nodes, workers)}


def _line(node: Node, *path: str) -> int:
    table = at(node, *path[:-1]) if len(path) > 1 else node
    return table.lines.get(path[-1], table.line) if isinstance(table, Mapped) else node.line
