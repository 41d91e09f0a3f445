"""The lines that say something: per program a pattern, what it measures or sets, and in which unit. A new line is one row.

vLLM: v1/worker/gpu_worker.py, gpu_model_runner.py, core/kv_cache_utils.py. SGLang: srt/model_executor. llama.cpp:
src/llama-model.cpp, llama-kv-cache.cpp, llama-context.cpp. ollama: server/routes.go, llm/llama_server.go; before 0.30
ml/device.go, llm/server.go. TensorRT-LLM: _torch/pyexecutor/_util.py, batch_manager/kvCacheManager.cpp. Megatron-LM:
megatron/training/utils.py, report_memory. torchtitan: torchtitan/components/metrics.py. torch: torch/cuda/memory.py,
memory_summary.
"""

import re
from collections.abc import Mapping

from memcalc.frozen import NamedTuple

UNITS: Mapping[str, float] = {
    "gib": 2**30, "mib": 2**20, "kib": 2**10, "gb": 2**30, "mb": 2**20, "": 1,  # these programs write GB for 2^30
}  # fmt: skip


class Measures(NamedTuple):
    """A line with a number; the pattern's groups are the number and, where it varies, its unit."""

    program: str
    quantity: str
    pattern: re.Pattern[str]
    unit: str = ""
    each: str = "last"  # of several such lines: the last, the largest, the largest sum of a device, or of devices' last ones
    spare: bool = False  # counts only where no other line says it


class Sets(NamedTuple):
    """A line that says how the program was run; the group is the value."""

    program: str
    setting: str  # of Serving; model, version, quantization and mixture are no settings
    pattern: re.Pattern[str]
    words: Mapping[str, str | None] = {}  # their word → ours; None: say nothing


# llama_memory_breakdown_print: |   - CUDA0 (RTX 4090) | 24080 = 9436 + (14193 = 13169 + 38 + 985) + 451 | (common/fit.cpp too)
BREAKDOWN = r"memory_breakdown\w*: .*?<D> \([^)]*\)[\s|:]*\d+ =\s*\d+ \+ \(\s*\d+ =\s*"
DEVICE = r"\b(?P<device>(?:CUDA|ROCm|Vulkan|MTL|Metal)\d*)"
N, UNIT = r"([\d,]+(?:\.\d+)?)", "GiB|MiB|KiB|GB|MB"


def _re(text: str) -> re.Pattern[str]:
    return re.compile(
        text.replace("<D>", DEVICE).replace("<N>", f"(?P<number>{N[1:-1]})").replace("<U>", rf"\s*(?P<unit>{UNIT})")
    )


VLLM, SGLANG, LLAMA, OLLAMA, TENSORRT, MEGATRON, TITAN, TORCH, SMI = (
    "vllm", "sglang", "llama.cpp", "ollama", "tensorrt-llm", "megatron", "torchtitan", "torch", "nvidia-smi",
)  # fmt: skip
MEASURED = (
    Measures(VLLM, "weights", _re(r"(?:Model loading|Loading model weights) took (?:memory )?<N><U>")),
    Measures(VLLM, "weights", _re(r"model weights take <N><U>")),
    Measures(VLLM, "activations", _re(r"PyTorch activation peak memory takes <N><U>")),
    Measures(VLLM, "cache", _re(r"Available KV cache memory: <N><U>")),
    Measures(VLLM, "cache", _re(r"memory reserved for KV Cache is <N><U>")),
    Measures(VLLM, "kv_tokens", _re(r"GPU KV cache size: <N> tokens")),
    Measures(VLLM, "max_concurrency", _re(r"Maximum concurrency for [\d,]+ tokens per request: <N>x")),
    Measures(VLLM, "graphs", _re(r"Graph capturing finished in .*? took <N><U>")),
    Measures(SGLANG, "weights", _re(r"Load weight end\..*?mem usage=<N><U>")),
    Measures(SGLANG, "kv_tokens", _re(r"KV Cache is allocated\..*?#tokens: <N>")),
    Measures(SGLANG, "kv_tokens", _re(r"max_total_num_tokens=<N>")),
    Measures(SGLANG, "graphs", _re(r"Capture cuda graph end\..*?mem usage=<N><U>")),
    Measures(LLAMA, "weights", _re(r"<D>(?:_Mapped)? (?:model )?buffer size =\s*<N><U>"), each="device"),
    Measures(LLAMA, "kv_cache", _re(r"<D> (?:KV|RS) buffer size =\s*<N><U>"), each="device"),
    Measures(LLAMA, "compute_buffer", _re(r"<D> compute buffer size =\s*<N><U>"), each="largest"),
    Measures(LLAMA, "weights", _re(BREAKDOWN + r"<N> \+"), "MiB", "latest", spare=True),
    Measures(LLAMA, "kv_cache", _re(BREAKDOWN + r"\d+ \+\s*<N> \+"), "MiB", "latest", spare=True),
    Measures(LLAMA, "compute_buffer", _re(BREAKDOWN + r"\d+ \+\s*\d+ \+\s*<N>\)"), "MiB", "latest", spare=True),
    Measures(OLLAMA, "weights", _re(r'msg="model weights" device="?<D>"? size="?<N><U>'), each="largest"),
    Measures(OLLAMA, "kv_cache", _re(r'msg="kv cache" device="?<D>"? size="?<N><U>'), each="largest"),
    Measures(OLLAMA, "compute_buffer", _re(r'msg="compute graph" device="?<D>"? size="?<N><U>'), each="largest"),
    Measures(TENSORRT, "weights", _re(r"Memory used after loading model weights \(inside torch\)[^:]*: <N><U>")),
    Measures(TENSORRT, "cache", _re(r"Allocated <N><U> for max tokens in paged KV cache")),
    Measures(TENSORRT, "kv_tokens", _re(r"for max tokens in paged KV cache \(<N>\)")),
    Measures(MEGATRON, "peak", _re(r"memory \(MB\).*?\| max allocated: <N>"), "MB", "largest"),
    Measures(MEGATRON, "reserved", _re(r"memory \(MB\).*?\| max reserved: <N>"), "MB", "largest"),
    Measures(TITAN, "reserved", _re(r"step:.*?memory:\s*<N><U>\("), each="largest"),
    Measures(TORCH, "peak", _re(r"\|\s*Allocated memory\s*\|[^|]*\|\s*<N><U>\s*\|"), each="largest"),
    Measures(TORCH, "reserved", _re(r"\|\s*GPU reserved memory\s*\|[^|]*\|\s*<N><U>\s*\|"), each="largest"),
    Measures(SMI, "device", _re(r"\|\s*<N><U> /\s*\d+MiB\s*\|"), each="largest"),
)  # fmt: skip
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "auto": None}
CACHES = {
    "auto": None,
    "fp4_e2m1": "nvfp4",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "fp8": "fp8",
    "f16": "fp16",
    "bfloat16": "bf16",
}
# A log's word for how a draft guesses; a model of its own is said by no word.
DRAFTS = re.compile(
    r"'?speculative_config'?(?:=SpeculativeConfig\(|: {)[^)}]{0,400}?method'?(?:=|: )'"
    r"(?:\w+_)?(mtp|eagle3?|dflash|ngram|suffix)'"
)
EVERY_RANK = "all"  # experts are divided over all ranks, of all replicas
GUESSING = {"NEXTN": "mtp", "EAGLE": "eagle", "EAGLE3": "eagle3", "DFLASH": "dflash", "NGRAM": "ngram",
            "STANDALONE": None, "None": None}  # fmt: skip
NOTHING = {"None": None, "null": None}
FLASH = {"auto": None, "Auto": None, "true": "on", "Enabled": "on", "on": "on", "false": "off", "Disabled": "off", "off": "off"}


def _argument(name: str, value: str = r"([^,)}\s]+)") -> re.Pattern[str]:
    """name=value or 'name': value, as Python prints settings."""
    return re.compile(rf"[\s({{,]'?{name}'?(?:=|: )'?{value.rstrip(')')}" + (")" if value.endswith(")") else ""))


SET = (
    Sets(VLLM, "version", re.compile(r"(?:LLM engine \(v|API server version )(\d+\.\d+(?:\.\d+)?(?:\.?(?:rc|dev)\d+)*)")),
    Sets(VLLM, "habits", re.compile(r"CUDA graph memory profiling is enabled \(default since v(\d+\.\d+)")),
    Sets(VLLM, "model", re.compile(r"LLM engine .*?with config: model='([^']+)'")),
    Sets(VLLM, "model", re.compile(r"non-default args: .*?'model': '([^']+)'")),
    Sets(VLLM, "context", _argument("max_seq_len")), Sets(VLLM, "context", _argument("max_model_len"), NOTHING),
    Sets(VLLM, "tp", _argument("tensor_parallel_size")), Sets(VLLM, "pp", _argument("pipeline_parallel_size")),
    Sets(VLLM, "dp", _argument("data_parallel_size")),
    Sets(VLLM, "kv_dtype", _argument("kv_cache_dtype", r"([\w.]+)"), CACHES),
    Sets(VLLM, "weights", _argument("dtype", r"(?:torch\.)?(\w+)"), DTYPES),
    Sets(VLLM, "gpu_memory_utilization", _argument("gpu_memory_utilization")),
    Sets(VLLM, "max_batched_tokens", _argument("max_num_batched_tokens"), NOTHING),
    Sets(VLLM, "max_sequences", _argument("max_num_seqs"), NOTHING),
    Sets(VLLM, "eager", _argument("enforce_eager"), {"True": "true", "False": None}),
    Sets(VLLM, "quantization", _argument("quantization", r"([\w-]+)"), NOTHING),
    Sets(VLLM, "mixture", _argument("quantization", r"(modelopt_mixed)")),
    Sets(VLLM, "draft", DRAFTS),
    Sets(VLLM, "draft_tokens", _argument("num_speculative_tokens", r"(\d+)")),
    Sets(VLLM, "draft_tokens", _argument("num_spec_tokens", r"(\d+)")),
    Sets(VLLM, "kv_cache_memory", _argument("kv_cache_memory_bytes", r"(\d+)")),
    Sets(VLLM, "block_size", _argument("block_size", r"(\d+)")),
    Sets(VLLM, "max_graph_batch", _argument("max_cudagraph_capture_size", r"(\d+)")),
    Sets(VLLM, "images_per_prompt", re.compile(r"'limit_mm_per_prompt': {[^}]{0,80}?'image': (\d+)")),
    Sets(VLLM, "ep", _argument("enable_expert_parallel"), {"True": EVERY_RANK, "False": None}),
    Sets(VLLM, "lora_adapters", _argument("max_loras", r"(\d+)")),
    Sets(VLLM, "lora_rank", _argument("max_lora_rank", r"(\d+)")),
    Sets(VLLM, "language_model_only", _argument("language_model_only"), {"True": "true", "False": None}),
    Sets(SGLANG, "model", re.compile(r"ServerArgs\(model_path='([^']+)'")),
    Sets(SGLANG, "context", _argument("context_length"), NOTHING), Sets(SGLANG, "tp", _argument("tp_size")),
    Sets(SGLANG, "pp", _argument("pp_size")), Sets(SGLANG, "gpu_memory_utilization", _argument("mem_fraction_static"), NOTHING),
    Sets(SGLANG, "context", re.compile(r"max_total_num_tokens=.*?\bcontext_len=(\d+)")),
    Sets(SGLANG, "max_batched_tokens", _argument("chunked_prefill_size", r"(\d+)")),
    Sets(SGLANG, "max_sequences", _argument("max_running_requests", r"(\d+)")),
    Sets(SGLANG, "max_graph_batch", _argument("cuda_graph_max_bs", r"(\d+)")),
    Sets(SGLANG, "kv_dtype", _argument("kv_cache_dtype", r"([\w.]+)"), CACHES),
    Sets(SGLANG, "quantization", _argument("quantization", r"([\w-]+)"), NOTHING),
    Sets(SGLANG, "draft", _argument("speculative_algorithm", r"(\w+)"), GUESSING),
    Sets(SGLANG, "draft_path", _argument("speculative_draft_model_path", r"([\w./~-]+)"), NOTHING),
    Sets(SGLANG, "draft_tokens", _argument("speculative_num_draft_tokens", r"(\d+)")),
    Sets(TENSORRT, "version", re.compile(r"TensorRT-LLM version: (\d+\.\d+)")),
    Sets(TENSORRT, "model", re.compile(r"\bLLM Args:.*?\bmodel='([^']+)'")),
    Sets(TENSORRT, "model", re.compile(r"trtllm-serve (?:serve )?([\w./-]+)")),
    Sets(TENSORRT, "context", re.compile(r"\[TRT-LLM\].*?\bmax_seq_len=(\d+)")),
    Sets(TENSORRT, "max_batched_tokens", re.compile(r"\[TRT-LLM\].*?\bmax_num_tokens=(\d+)")),
    Sets(TENSORRT, "max_sequences", re.compile(r"\[TRT-LLM\].*?\bmax_(?:num_requests|batch_size)=(\d+)")),
    Sets(TENSORRT, "gpu_memory_utilization", re.compile(r"KV cache memory.*?fraction is set (0?\.\d+|1(?:\.0*)?)\b")),
    Sets(TENSORRT, "block_size", re.compile(r"Number of tokens per block: (\d+)")),
    Sets(OLLAMA, "version", re.compile(r"Listening on .*?\(version (\d+\.\d+(?:\.\d+)?)")),
    Sets(OLLAMA, "context", re.compile(r"starting llama-server.*? -c (\d+)")),
    Sets(OLLAMA, "context", re.compile(r"\bOperation:\w+ .*?\bKvSize:(\d+)")),
    Sets(OLLAMA, "batch", re.compile(r"starting llama-server.*? -np (\d+)")),
    Sets(OLLAMA, "batch", re.compile(r"\bOperation:\w+ .*?\bParallel:(\d+)")),
    Sets(OLLAMA, "max_batched_tokens", re.compile(r"starting llama-server.*? -ub (\d+)")),
    Sets(OLLAMA, "max_batched_tokens", re.compile(r"\bOperation:\w+ .*?\bBatchSize:(\d+)")),
    Sets(OLLAMA, "flash_attention", re.compile(r"\bOperation:\w+ .*?\bFlashAttention:(\w+)"), FLASH),
    Sets(OLLAMA, "flash_attention", re.compile(r"starting llama-server.*? --flash-attn (\w+)"), FLASH),
    Sets(OLLAMA, "kv_dtype", re.compile(r"\bOperation:\w+ .*?\bKvCacheType:(\w+)"), CACHES),
    Sets(OLLAMA, "kv_dtype", re.compile(r"starting llama-server.*? --cache-type-k (\w+)"), CACHES),
    Sets(OLLAMA, "weights", re.compile(r"\bfile_type=(\w+)")),
    Sets(OLLAMA, "model", re.compile(r'\barchitecture=\w+ file_type=\w+ name="?([^"\n]{1,80}?)"? description=')),
    Sets(LLAMA, "model", re.compile(r"general\.name\s+(?:str\s+)?= (.+?)\s*$")),
    Sets(LLAMA, "weights", re.compile(r"file type\s+= (\S+(?: - \w+)?)")),
    Sets(LLAMA, "context", re.compile(r"\bn_ctx\s+= (\d+)")),
    Sets(LLAMA, "slots", re.compile(r"\bn_seq_max\s+= (\d+)"), {"1": None}),
    Sets(LLAMA, "unified", re.compile(r"\bkv_unified\s+= (\w+)"), {"true": "true", "false": None}),
    Sets(LLAMA, "max_batched_tokens", re.compile(r"\bn_ubatch\s+= (\d+)")),
    Sets(LLAMA, "flash_attention", re.compile(r"\bflash_attn\s+= (\w+)"), FLASH),
    Sets(LLAMA, "flash_attention", re.compile(r"Flash Attention was auto, set to (\w+)"), {"enabled": "on", "disabled": "off"}),
    Sets(LLAMA, "gpu_layers", re.compile(r"offloaded (\d+)/\d+ layers")),
    Sets(LLAMA, "kv_dtype", re.compile(r"K \((\w+)\):"), CACHES),
)  # fmt: skip


def release_of(version: str) -> str:
    """The release that a version is of. A build of the main branch is named after the release before it (setuptools-scm:
    0.20.2rc1.dev129), and has what the next minor release has.

    >>> release_of("0.21.1"), release_of("0.20.2rc1.dev129")
    ('0.21', '0.21')
    """
    major, minor = version.split(".")[:2]
    return f"{major}.{int(minor) + 1}" if ".dev" in version else f"{major}.{minor}"


# llama.cpp's name of a file's type → ours
FILE_TYPES = {"Q4_K - Medium": "Q4_K_M", "Q4_K - Small": "Q4_K_S", "Q5_K - Medium": "Q5_K_M", "Q5_K - Small": "Q5_K_S",
              "Q3_K - Medium": "Q3_K_M", "Q3_K - Small": "Q3_K_S", "Q3_K - Large": "Q3_K_L",
              "Q2_K - Medium": "Q2_K"}  # fmt: skip
TRAINING = (MEGATRON, TITAN, TORCH, SMI)
# Where a server starts another process, of which the rest is; and what holds for all of them.
STARTS = re.compile(r'msg="?(?:starting llama-server|starting runner|starting ollama runner|starting llama server)\b')
OF_THE_SERVER = ("version",)
WRITES = {OLLAMA: LLAMA}  # programs whose logs hold another's: theirs is the log
