"""Kubernetes manifests, KServe, KAITO, Helm values of vLLM's production stack and docker-compose: where the arguments are."""

import re
import shlex
from collections.abc import Callable, Iterator

from memcalc.errors import InputError, MemcalcError
from memcalc.readers.launch.facts import Fact
from memcalc.readers.launch.job import Job
from memcalc.readers.launch.kinds.vllm import KEYS as VLLM_KEYS
from memcalc.readers.launch.kinds.vllm import VLLM
from memcalc.readers.launch.meanings import Ignored, KeyTable, Unmodelled, meaning_of
from memcalc.readers.launch.nodes import Entry, Listed, Mapped, Node, Scalar, at, entries, rows_at, tables_in, text_at
from memcalc.readers.launch.reading import Reading, read_entries, take
from memcalc.readers.launch.scripts import lines_of_options
from memcalc.readers.launch.tasks import is_task, task_jobs
from memcalc.readers.launch.values import count

Scripts = Callable[[str, int], list[Job]]
GPU_LIMITS = ("nvidia.com/gpu", "amd.com/gpu")
ENTRYPOINTS = {"vllm": "vllm serve", "sglang": "python3 -m sglang.launch_server", "llama": "llama-server"}
IMAGE = re.compile(r"(?:.*/)?(?P<name>[\w.-]*(?:vllm|sglang|llama|tensorrt|trtllm)[\w.-]*)(?::v?(?P<tag>[\w.-]+))?$")
REFERENCE = re.compile(r"\$\((\w+)\)")
COMPOSE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)")
IDLE = Ignored("of the cluster, not of memory or speed that memcalc counts", True)


def is_container(node: Node) -> bool:
    named = any(at(node, *path) is not None for path in (("apiVersion",), ("services",), ("servingEngineSpec",)))
    return named or is_task(node)


def container_jobs(documents: list[Node], file: str, scripts: Scripts, source: list[str]) -> list[Job]:
    """All servers that some documents describe."""
    jobs: list[Job] = []
    problem: MemcalcError | None = None
    texts = {text_at(node, "metadata", "name"): node for node in documents if text_at(node, "kind") == "ConfigMap"}
    for node in documents:
        try:
            if at(node, "servingEngineSpec") is not None:
                jobs += _helm(node, file)
            elif at(node, "services") is not None:
                jobs += _compose(node, file, scripts, source)
            elif at(node, "inference", "preset") is not None or text_at(node, "kind") in ("Workspace", "InferenceSet"):
                jobs += _kaito(node, file, texts)
            elif is_task(node):
                jobs += [job._replace(reading=_at_line(job.reading, 1, file, source)) for job in task_jobs(node, file, scripts)]
            else:
                jobs += _manifest(node, file, scripts, source)
        except MemcalcError as error:
            problem = error
    if not jobs:
        raise problem or InputError("holds no server or training run that is known", place=file)
    return jobs


def _say(reading: Reading, fact: str, value: object, key: str, line: int, file: str) -> None:
    take(reading, Entry(key, str(value), line, file), fact)


# --- Kubernetes -------------------------------------------------------------------------------------------------------


def _manifest(node: Node, file: str, scripts: Scripts, source: list[str]) -> Iterator[Job]:
    """Containers wherever a manifest keeps them; of a leader and its workers the leader speaks."""
    kind, name = text_at(node, "kind"), text_at(node, "metadata", "name")
    found = [(table, container) for table in tables_in(node) for container in rows_at(table, "containers")]
    found += [(table, container) for table, container in _served(node) if not found]
    done = 0
    for table, container in found:
        command = _command(container)
        if not command:
            continue
        try:
            job = scripts(command, container.line)[0]
        except MemcalcError:
            continue
        if done and text_at(node, "kind") == "LeaderWorkerSet":
            break
        done += 1
        reading = _at_line(job.reading, container.line, file, source)
        _say(reading, "manifest_kind", kind, "kind", _line(node, "kind"), file)
        _resources(reading, container, file)
        _image(reading, text_at(container, "image"), _line(container, "image"), file)
        for path, line_of in ((("spec", "replicas"), node), (("spec", "predictor", "minReplicas"), node)):
            if value := text_at(node, *path):
                _say(reading, "replicas", value, ".".join(path), _line(line_of, *path), file)
                break
        selector = at(table, "nodeSelector")
        for key, product in selector.items.items() if isinstance(selector, Mapped) else ():
            if key.endswith(("gpu.product", "accelerator", "gpu")) and isinstance(product, Scalar):
                take(reading, Entry(key, _gpu(product.text or ""), product.line, file), "gpu")
        size = text_at(node, "spec", "leaderWorkerTemplate", "size")
        if size and "gpus_in_pod" in reading.facts:
            pods, each = count(size), reading.facts["gpus_in_pod"].value
            if isinstance(pods, int) and isinstance(each, int):
                reading.follow("gpus", pods * each, "gpus_in_pod")
        if reading.says("manifest_kind") and kind in ("Deployment", "LeaderWorkerSet", "StatefulSet"):
            reading.default("Kubernetes' default", replicas=1)
        yield job._replace(name=name or job.name, label="k8s-manifest", reading=reading, file=file)


def _served(node: Node) -> list[tuple[Mapped, Node]]:
    """KServe's own way: a model with arguments (InferenceService), or by address with degrees (LLMInferenceService); vLLM runs
    both (kserve/python/huggingfaceserver; kserve/pkg/apis/serving/v1alpha1/llm_inference_service_types.go).
    """
    found = at(node, "spec", "predictor", "model")
    if isinstance(found, Mapped):
        address = text_at(found, "storageUri").removeprefix("hf://")
        words = ["vllm", "serve", *([address] if address else [])]
        items = {**found.items, "command": Listed([Scalar(word, found.line) for word in words], found.line)}
        return [(found, Mapped(items, found.lines, found.line))]
    address = text_at(node, "spec", "model", "uri").removeprefix("hf://")
    table = at(node, "spec")
    if not address or not isinstance(table, Mapped):
        return []
    degrees = [(f"--{name}-parallel-size", text_at(table, "parallelism", name)) for name in ("tensor", "pipeline", "data")]
    words = ["vllm", "serve", address, *(word for option, size in degrees if size for word in (option, size))]
    command: dict[str, Node] = {"command": Listed([Scalar(word, table.line) for word in words], table.line)}
    return [(table, Mapped(command, {}, table.line))]


def _gpu(product: str) -> str:
    return re.sub(r"^(nvidia|amd)[-_ ]", "", product.strip().lower())


def _at_line(reading: Reading, start: int, file: str, source: list[str]) -> Reading:
    """Options of a container's words, on the lines where these stand: the first behind the container's own."""

    written = lines_of_options(source)

    def moved(entry: Entry) -> Entry:
        line = next((number for number in written.get(entry.key, ()) if number >= start), 0)
        if not line and isinstance(entry.value, str) and entry.value:  # what stands alone: MODEL
            line = next((number for number, text in enumerate(source, 1) if number >= start and entry.value in text), 0)
        return entry._replace(line=line or start, file=file)

    facts = {name: fact._replace(entry=moved(fact.entry)) if fact.entry else fact for name, fact in reading.facts.items()}
    return Reading(facts, [row._replace(entry=moved(row.entry)) for row in reading.imported])


def _line(node: Node, *path: str) -> int:
    table = at(node, *path[:-1])
    return table.lines.get(path[-1], node.line) if isinstance(table, Mapped) else node.line


def _words(node: Node | None) -> list[str]:
    if isinstance(node, Scalar):
        return [node.text or ""]
    return [item.text or "" for item in node.items if isinstance(item, Scalar)] if isinstance(node, Listed) else []


def _command(container: Node) -> str:
    """A container's command and arguments as one line of shell, its own variables put in."""
    variables = {text_at(item, "name"): text_at(item, "value") for item in rows_at(container, "env")}
    words = [REFERENCE.sub(lambda found: variables.get(found[1]) or f"${{{found[1]}}}", word)
             for key in ("command", "args") for word in _words(at(container, key))]  # fmt: skip
    if not words:
        return ""
    prefix = _entrypoint(text_at(container, "image")) if words[0].startswith("-") else ""
    exports = " ".join(
        f"{name}={shlex.quote(value)}" for name, value in variables.items() if value and re.fullmatch(r"\w+", name)
    )
    body = words[-1] if len(words) > 2 and words[1] in ("-c", "-lc", "-ec") else _joined(words)
    return f"export {exports}\n{prefix}{body}" if exports else f"{prefix}{body}"


def _joined(words: list[str]) -> str:
    """Quoted where they must be; a variable stays one."""
    return " ".join(word if re.fullmatch(r"[\w@%+=:,./{}$-]+", word) else shlex.quote(word) for word in words)


def _entrypoint(image: str) -> str:
    found = IMAGE.match(image)
    name = found["name"].lower() if found else ""
    return next((f"{command} " for key, command in ENTRYPOINTS.items() if key in name), "")


def _image(reading: Reading, image: str, line: int, file: str) -> None:
    found = IMAGE.match(image)
    if found and found["tag"] and found["tag"][0].isdigit():
        _say(reading, "engine_version", found["tag"], "image", line, file)


def _resources(reading: Reading, container: Node, file: str) -> None:
    limits = at(container, "resources", "limits") or at(container, "resources", "requests")
    if isinstance(limits, Mapped):
        for key, value in limits.items.items():
            if isinstance(value, Scalar):
                meaning = "gpus_in_pod" if key in GPU_LIMITS else (
                    Unmodelled("a part of a GPU") if key.startswith("nvidia.com/mig") else IDLE
                )  # fmt: skip
                take(reading, Entry(f"resources.limits.{key}", value.text, value.line, file), meaning)


# --- docker-compose ---------------------------------------------------------------------------------------------------


def _compose(node: Node, file: str, scripts: Scripts, source: list[str]) -> Iterator[Job]:
    services = at(node, "services")
    for name, service in services.items.items() if isinstance(services, Mapped) else ():
        image = _defaulted(text_at(service, "image"))
        entrypoint = _words(at(service, "entrypoint"))
        words = _words(at(service, "command"))
        text = " ".join(words) if isinstance(at(service, "command"), Scalar) else _joined(words)
        text = _defaulted(" ".join(text.split("\n")))
        if not text and not entrypoint:
            continue
        start = _joined(entrypoint) + " " if entrypoint else _entrypoint(image) if text.startswith("-") else ""
        try:
            job = scripts(start + text, service.line)[0]
        except MemcalcError:
            continue
        reading = _at_line(job.reading, _line(service, "command"), file, source)
        _image(reading, image, _line(service, "image"), file)
        for device in rows_at(service, "deploy", "resources", "reservations", "devices"):
            listed, counted = rows_at(device, "device_ids"), text_at(device, "count")
            if listed:
                _say(reading, "gpus", len(listed), "device_ids", device.line, file)
            elif counted and counted != "all":
                _say(reading, "gpus", counted, "count", device.line, file)
        yield job._replace(name=name, label="docker-compose", reading=reading, file=file)


def _defaulted(text: str) -> str:
    """${NAME:-default}: the default; what has none stays for the reader to ask about."""
    return COMPOSE.sub(lambda found: found[2] if found[2] is not None else f"${{{found[1] or found[3]}}}", text)


# --- Helm values, KAITO -----------------------------------------------------------------------------------------------

HELM: KeyTable = {
    "modelURL": "model", "replicaCount": "replicas", "requestGPU": "gpus_in_pod",
    "vllmConfig.tensorParallelSize": "tp", "vllmConfig.pipelineParallelSize": "pp", "vllmConfig.maxModelLen": "context",
    "vllmConfig.gpuMemoryUtilization": "gpu_memory_utilization", "vllmConfig.dtype": "dtype",
    "vllmConfig.maxNumSeqs": "max_sequences",
    "vllmConfig.maxLoras": "lora_adapters", "vllmConfig.enableLoRA": IDLE, "vllmConfig.*": IDLE,
    "extraArgs": Unmodelled("arguments beside vllmConfig, which the chart's templates read alone", ("[]", "")),
    "lmcacheConfig.enabled": Unmodelled("a cache in host memory or elsewhere"), "lmcacheConfig.*": IDLE,
    "raySpec.headNode.requestGPU": "gpus_in_pod", "tag": IDLE, "*": IDLE,
}  # fmt: skip


def _helm(node: Node, file: str) -> Iterator[Job]:
    specs = rows_at(node, "servingEngineSpec", "modelSpec")
    for spec in specs:
        listed = [entry for entry in entries(spec, file) if entry.key != "vllmConfig.extraArgs"]
        reading = read_entries(listed, HELM)
        extra = _words(at(spec, "vllmConfig", "extraArgs"))
        from memcalc.readers.launch.arguments import options
        from memcalc.readers.launch.shell.run import Word

        line = _line(spec, "vllmConfig", "extraArgs")
        found, _ = options([Word(text, line) for text in extra], file)
        for entry in found:
            take(reading, entry, meaning_of(entry.key, VLLM_KEYS))
        reading.facts["models_in_file"] = Fact(len(specs), None, "the file")
        yield Job(text_at(spec, "name") or "model", file, VLLM, "helm-values", reading)


KAITO: KeyTable = {
    "resource.instanceType": "instance_type", "resource.count": "nodes", "resource.preferredNodes": IDLE,
    "inference.preset.name": "model", "kind": "manifest_kind", "inference.preset.presetOptions.modelAccessSecret": IDLE,
    "inference.adapters[*": Unmodelled("adapters beside the model", ()),
    "inference.template.*": Unmodelled("a pod of one's own"),
    "tuning.*": Unmodelled("KAITO's tuning"), "*": IDLE,
}  # fmt: skip


def _kaito(node: Node, file: str, configs: dict[str, Node]) -> Iterator[Job]:
    from memcalc.readers.launch.yaml_text import read_yaml

    reading = read_entries(entries(node, file), KAITO)
    named = text_at(node, "inference", "config")
    data = at(configs[named], "data") if named in configs else None
    for value in data.items.values() if isinstance(data, Mapped) else ():
        if isinstance(value, Scalar) and value.text:
            for table in read_yaml(value.text, file)[:1]:
                for entry in entries(at(table, "vllm") or Mapped({}, {}, 0), file):
                    placed = entry._replace(line=value.line + entry.line)
                    take(reading, placed, meaning_of(entry.key, VLLM_KEYS))
    yield Job(text_at(node, "metadata", "name") or "workspace", file, VLLM, "kaito-manifest", reading)
