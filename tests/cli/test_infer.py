"""`memcalc infer`: weights and cache per GPU, how many fit, and the JSON contract."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
Folder = Callable[..., str]

# DESIGN.md, section 3
CONTRACT = (
    "schema", "model.name", "model.parameters", "model.active_parameters", "model.embedding_parameters",
    "per_gpu.weights", "per_gpu.kv_cache", "per_gpu.kv_cache_per_token", "per_gpu.state", "per_gpu.overhead",
    "per_gpu.peak", "per_gpu.device", "capacity.kv_tokens", "capacity.max_concurrency", "capacity.max_batch",
    "gpu.name", "gpu.memory", "gpu.usable", "gpu.fits", "gpu.headroom",
    "lines.0.path", "lines.0.bytes", "lines.0.phase", "lines.0.formula", "lines.0.inputs", "lines.0.source",
    "assumptions", "warnings", "sources",
)  # fmt: skip
WHOLE = {path for path in CONTRACT if path.startswith(("per_gpu.", "capacity.")) or path in ("gpu.usable", "gpu.headroom")}

SERVED = (
    "", "--batch 8 --context 32k", "--weights int8", "--weights int4-g128 --kv-dtype fp8-e4m3", "--precision fp32",
    "--tp 8", "--tp 16 --pp 2", "--gpu-memory-utilization 0.5", "--engine transformers", "--engine llama.cpp --gpu-layers 9",
)  # fmt: skip


def field(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


@pytest.mark.parametrize("options", SERVED)
def test_contract(memcalc: Run, folder: Folder, options: str) -> None:
    result = memcalc(f"infer {folder()} {options} --gpu h100 --format json")
    assert result.code == 0, result.err
    found = result.document
    values = {path: field(found, path) for path in CONTRACT}
    fractions = {path: values[path] for path in WHOLE if type(values[path]) is not int}
    assert not fractions, fractions
    assert (
        values["per_gpu.peak"]
        == values["per_gpu.weights"] + values["per_gpu.kv_cache"] + values["per_gpu.state"] + (found["per_gpu"]["activations"])
    )
    assert values["per_gpu.device"] == values["per_gpu.peak"] + values["per_gpu.overhead"]
    assert values["gpu.fits"] == (values["gpu.headroom"] >= 0)
    cited = {line["source"].split(":")[0] for line in (*found["lines"], *found["speed"]["lines"])}
    assert cited == set(found["sources"])
    for component in ("weights", "kv_cache", "state", "overhead"):
        on_gpu = [line for line in found["lines"] if line["place"] == "gpu"]
        lines = [line["bytes"] for line in on_gpu if line["path"].startswith(f"{component}/")]
        assert values[f"per_gpu.{component}"] == sum(lines), component


# options, field, value, source
FIGURES = (
    ("", "per_gpu.kv_cache_per_token", "131072", "Llama 3 8B: 2 × 32 × 8 × 128 × 2 B"),
    ("--context 8Ki --batch 8", "per_gpu.kv_cache", str(8 * 2**30), "1 GiB a sequence of 8192"),
    ("--context 8k", "per_gpu.kv_cache", str(131072 * 8000), "k is a thousand"),
    ("--kv-dtype fp8-e4m3", "per_gpu.kv_cache_per_token", "65536", "a byte for two"),
    ("", "per_gpu.weights", str(2 * 8_030_261_248), "bf16"),
    ("--weights fp32", "per_gpu.weights", str(4 * 8_030_261_248), "fp32"),
    ("--precision fp16", "per_gpu.weights", str(2 * 8_030_261_248), "fp16"),
    ("--precision fp32", "per_gpu.kv_cache_per_token", "262144", "--precision speaks for the cache too"),
    ("--precision fp32 --kv-dtype bf16", "per_gpu.kv_cache_per_token", "131072", "unless it is said apart"),
    ("--tp 8", "per_gpu.kv_cache_per_token", "16384", "one of eight heads"),
    ("--tp 16", "per_gpu.kv_cache_per_token", "16384", "heads are replicated beyond eight"),
)


@pytest.mark.parametrize(("options", "path", "expected", "source"), FIGURES)
def test_figures(memcalc: Run, folder: Folder, options: str, path: str, expected: str, source: str) -> None:
    result = memcalc(f"infer {folder()} {options} --get {path}")
    assert result.out == f"{expected}\n", f"{path}: {result.out or result.err}, expected {expected}: {source}"


def test_capacity_is_the_boundary(memcalc: Run, folder: Folder) -> None:
    """So many sequences stay within the engine's share of the GPU, one more does not."""
    base = f"infer {folder()} --context 8k --gpu h100"
    first = memcalc(f"{base} --format json").document
    most, usable = first["capacity"]["max_batch"], first["gpu"]["usable"]
    within, beyond = (int(memcalc(f"{base} --batch {n} --get per_gpu.device").out) for n in (most, most + 1))
    assert within <= 0.9 * usable < beyond, f"{most}: {within:,}, {most + 1}: {beyond:,}, share {0.9 * usable:,.0f}"


def test_more_of_the_gpu_holds_more(memcalc: Run, folder: Folder) -> None:
    found = [
        int(memcalc(f"infer {folder()} --gpu h100 --gpu-memory-utilization {share} --get capacity.kv_tokens").out)
        for share in (0.3, 0.5, 0.9, 1.0)
    ]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_fit(memcalc: Run, folder: Folder) -> None:
    good = memcalc(f"infer {folder()} --gpu h100 --require-fit")
    assert good.code == 0
    assert "FITS: " in good.out
    bad = memcalc(f"infer {folder()} --gpu t4 --require-fit")
    assert bad.code == 1
    assert "DOES NOT FIT: " in bad.out
    assert memcalc(f"infer {folder()} --gpu t4").code == 0


def test_a_preset(memcalc: Run) -> None:
    assert memcalc("infer llama-3.1-8b --get model.parameters").out == "8030261248\n"


REFUSED = (
    ("infer 7B", ("MODEL", "give a preset or a config.json")),
    ("infer MODEL --weights bf61", ("--weights: ", "did you mean bf16?")),
    ("infer MODEL --kv-dtype fp99", ("--kv-dtype: ", "`memcalc formats`")),
    ("infer MODEL --precision int8", ("--precision: ", "--weights")),
    ("infer MODEL --precision fp16 --weights int8", ("--precision, --weights: ", "give one")),
    ("infer MODEL --context 0", ("--context: ", "between 1")),
    ("infer MODEL --context long", ("--context", "'long'")),
    ("infer MODEL --batch -1", ("--batch", "-1")),
    ("infer MODEL --tp 3", ("--tp: ", "32 attention heads")),
    ("infer MODEL --pp 33", ("--pp: ", "32 layers")),
    ("infer MODEL --ep 2", ("--ep: ",)),
    ("infer MODEL --gpu-memory-utilization 90", ("--gpu-memory-utilization", "write 0.4 or 40%")),
    ("infer MODEL --gpu-memory-utilization 1.5", ("--gpu-memory-utilization: ", "between 0.01 and 1.0")),
    ("infer MODEL --gpu-memory-utilization nan", ("--gpu-memory-utilization: ", "nan")),
    ("infer MODEL --gpu h1000", ("unknown GPU 'h1000'", "did you mean")),
    ("infer MODEL --require-fit", ("--require-fit", "needs a --gpu")),
    ("infer MODEL --contxt 5", ("--contxt", "--context")),
)


@pytest.mark.parametrize(("command", "words"), REFUSED)
def test_refused_in_one_line(memcalc: Run, folder: Folder, command: str, words: tuple[str, ...]) -> None:
    result = memcalc(command.replace("MODEL", folder()))
    assert (result.code, result.out) == (2, ""), f"exit {result.code}, stdout {result.out[:200]}"
    assert result.err.count("\n") == 1, result.err
    missing = [word for word in words if word not in result.err]
    assert not missing, f"{missing} not said in: {result.err}"


# --- weight files -------------------------------------------------------------------------------------------------------

Q8_0, F32 = 8, 0


@pytest.fixture
def gguf(tmp_path: Path, weight_files: Any) -> str:
    """A llama of four layers, matrices in q8_0, norms in fp32, embedding and head apart."""
    hidden, vocabulary, feed_forward, depth = 64, 256, 128, 4
    metadata = {"general.architecture": "llama", "llama.block_count": depth, "llama.context_length": 512,
                "llama.embedding_length": hidden, "llama.feed_forward_length": feed_forward, "llama.attention.head_count": 4,
                "llama.attention.head_count_kv": 2, "llama.attention.layer_norm_rms_epsilon": 1e-5,
                "llama.vocab_size": vocabulary}  # fmt: skip
    tensors: dict[str, tuple[int, tuple[int, ...]]] = {
        "token_embd.weight": (Q8_0, (vocabulary, hidden)), "output.weight": (Q8_0, (vocabulary, hidden)),
        "output_norm.weight": (F32, (hidden,)),
    }  # fmt: skip
    for i in range(depth):
        matrices = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64),
                    "ffn_gate": (128, 64), "ffn_up": (128, 64), "ffn_down": (64, 128)}  # fmt: skip
        tensors |= {f"blk.{i}.{name}.weight": (Q8_0, shape) for name, shape in matrices.items()}
        tensors |= {f"blk.{i}.{name}.weight": (F32, (hidden,)) for name in ("attn_norm", "ffn_norm")}
    return weight_files.gguf(tmp_path / "tiny.gguf", metadata, tensors)


TABLE = 256 * 64 * 34 // 32  # embedding or head
LAYER = (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64) * 34 // 32 + 2 * 64 * 4
NORM = 64 * 4
HOST_CACHE = 256 * 64 * 2  # of one layer: keys and values of 32 in bf16, 64 tokens padded to 256 cells

# options, bytes on the GPU, bytes in host memory
HELD = (
    ("", 2 * TABLE + 4 * LAYER + NORM, 0),
    ("--engine llama.cpp", TABLE + 4 * LAYER + NORM, TABLE),
    ("--engine llama.cpp --gpu-layers 3", TABLE + NORM + 2 * LAYER, TABLE + 2 * LAYER + 2 * HOST_CACHE),
    ("--engine llama.cpp@2025 --gpu-layers 3", 3 * LAYER, 2 * TABLE + LAYER + NORM + HOST_CACHE),
    ("--pp 4", TABLE + LAYER + NORM, 0),
    ("--weights fp32", 4 * (2 * 256 * 64 + 4 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 128) + 64), 0),
)  # fmt: skip


@pytest.mark.parametrize(("options", "on_gpu", "in_host"), HELD)
def test_a_files_weights_are_counted_as_they_are(memcalc: Run, gguf: str, options: str, on_gpu: int, in_host: int) -> None:
    found = memcalc(f"infer {gguf} --context 64 {options} --format json")
    assert found.code == 0, found.err
    assert found.document["per_gpu"]["weights"] == on_gpu
    assert found.document.get("host", {"weights": 0})["weights"] == in_host


def test_tensor_parallelism_divides_a_files_matrices(memcalc: Run, gguf: str) -> None:
    """Halves of all matrices, norms whole."""
    found = memcalc(f"infer {gguf} --context 64 --tp 2 --get per_gpu.weights")
    assert int(found.out) == TABLE + 4 * (LAYER - 512) // 2 + 4 * 512 + NORM


def test_host_memory_has_a_verdict_of_its_own(memcalc: Run) -> None:
    """What stands in host memory beside --ram: the worse of both verdicts counts and is said first."""
    line = "infer qwen3-30b-a3b --engine llama.cpp --weights Q4_K_M --context 32k --gpu rtx-3060-12 -ot exps=CPU --require-fit"
    fits, short = memcalc(f"{line} --ram 64GiB --format json"), memcalc(f"{line} --ram 16GiB --format json")
    assert (fits.code, short.code) == (0, 1)
    assert short.document["gpu"]["verdict"] == "fits"
    host = short.document["host"]
    assert host["verdict"] == "no"
    assert host["needed"] == host["per_node"] == host["limit"] - host["headroom"]
    assert "DOES NOT FIT in host memory" in memcalc(f"{line} --ram 16GiB").out
    assert "llama.cpp" in memcalc("infer qwen3-8b --engine vllm --ram 1GiB --gpu h100").err
    few = memcalc("infer qwen3-30b-a3b --engine llama.cpp --weights Q4_K_M --context 32k --gpu rtx-3060-12 --n-cpu-moe auto "
                  "--format json").document  # fmt: skip
    assert few["gpu"]["fits"]
    one = few["run"]["n_cpu_moe"] - 1
    assert memcalc(f"infer qwen3-30b-a3b --engine llama.cpp --weights Q4_K_M --context 32k --gpu rtx-3060-12 --n-cpu-moe {one} "
                   "--get gpu.fits").out == "false\n"  # fmt: skip
