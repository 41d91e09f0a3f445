"""llama-server's options and LLAMA_ARG_* variables (llama.cpp tools/server/README), and ollama's Modelfile."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.vllm import IDLE
from memcalc.readers.launch.meanings import By, Coded, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, count, word

FLAG: dict[str, Read] = {
    "on": True,
    "true": True,
    "1": True,
    "": True,
    "enabled": True,
    "off": False,
    "false": False,
    "0": False,
    "auto": "",
    "-1": "",
}


def _layers(value: Value) -> dict[str, Read]:
    text = word(value if isinstance(value, str) else "").lower()
    if text == "all":
        return {"gpu_layers": 999}
    found = count(text)
    return {} if found in ("auto", -1) else {"gpu_layers": found}


def _sequences(value: Value) -> dict[str, Read]:
    found = count(word(value if isinstance(value, str) else ""))
    return {} if found in ("auto", -1) else {"sequences": found}


def _context(value: Value) -> dict[str, Read]:
    found = count(word(value if isinstance(value, str) else ""))
    return {"context": found}


def _devices(value: Value) -> dict[str, Read]:
    """CUDA0,CUDA1: so many; none: the CPU alone."""
    names = [name for name in word(value if isinstance(value, str) else "").split(",") if name]
    return {"gpu_layers": 0} if names == ["none"] else {"visible_gpus": len(names)} if names else {}


EVERY_LAYER = 100_000  # of --cpu-moe, which keeps the experts of all of them

KEYS: KeyTable = {
    **alike("m model LLAMA_ARG_MODEL", "model_file"), **alike("hf hfr hf_repo LLAMA_ARG_HF_REPO", "model"),
    **alike("hff hf_file LLAMA_ARG_HF_FILE", "model_file"), **alike("mu model_url", "model_file"),
    **alike("c ctx_size LLAMA_ARG_CTX_SIZE", By(_context, "context")),
    **alike("np parallel LLAMA_ARG_N_PARALLEL", By(_sequences, "sequences")),
    **alike("ngl gpu_layers n_gpu_layers LLAMA_ARG_N_GPU_LAYERS", By(_layers, "gpu_layers")),
    **alike("ctk cache_type_k LLAMA_ARG_CACHE_TYPE_K", "kv_dtype_k"),
    **alike("ctv cache_type_v LLAMA_ARG_CACHE_TYPE_V", "kv_dtype_v"),
    **alike("b batch_size LLAMA_ARG_BATCH", "batch_tokens"), **alike("ub ubatch_size LLAMA_ARG_UBATCH", "ubatch"),
    **alike("fa flash_attn LLAMA_ARG_FLASH_ATTN", Coded("flash", FLAG)),
    **alike("md model_draft hfd hf_repo_draft", "draft"), **alike("draft_max draft draft_n", "draft_tokens"),
    **alike("ngld gpu_layers_draft ctkd ctvd cd ctx_size_draft", Unmodelled("settings of the draft model")),
    **alike("mm mmproj mmproj_url LLAMA_ARG_MMPROJ", Unmodelled("a projector beside the model")),
    **alike("ot override_tensor", "override_tensor"), **alike("ncmoe n_cpu_moe LLAMA_ARG_N_CPU_MOE", "cpu_moe_layers"),
    **alike("cmoe cpu_moe", Coded("cpu_moe_layers", {"true": EVERY_LAYER, "": EVERY_LAYER, "false": ""})),
    **alike("ts tensor_split LLAMA_ARG_TENSOR_SPLIT", "tensor_split"),
    **alike("sm split_mode LLAMA_ARG_SPLIT_MODE", "split_mode"), **alike("dev device LLAMA_ARG_DEVICE", By(_devices)),
    **alike("mg main_gpu", IDLE), **alike("nkvo no_kv_offload", Coded("cache_on_host", FLAG)),
    **alike("swa_full", Unmodelled("whole caches of sliding layers", ())),
    **alike("kvu kv_unified", Coded("unified", FLAG)), "fit": Unmodelled("what no option says is made to fit", ("off",
        "false", "0", "on")), **alike("fitt fit_target fitc", IDLE),
    **alike("lora lora_scaled", Unmodelled("adapters beside the model", ())),
    **alike("cram cache_ram", Unmodelled("prompts that are kept in host memory", ("0", ""))),
        **alike("no_mmap mlock mmap dio", IDLE),
    **alike("rope_* yarn_*", Unmodelled("a stretched context")),
    **alike("t threads* tb host port jinja temp top_k top_p min_p alias a s seed chat_template* log_* v verbose api_key* "
            "slots metrics props "
            "no_webui n_predict n predict keep repeat_* presence_penalty frequency_penalty numa prio* cont_batching cb no_* "
            "embedding embeddings pooling reranking reasoning_* grammar* cache_reuse slot_* warmup timeout to path "
            "draft_* spec_* "
            "check_tensors override_kv special ctx_checkpoints swa_checkpoints cache_prompt samplers models_* sleep* mirostat* "
            "dry_* xtc_* typical* dynatemp* threads_http hft hf_token defrag_thold dt sps ssl_* offline context_shift L", IDLE),
    **alike("LLAMA_ARG_* LLAMA_*", IDLE),
}  # fmt: skip


def finish(out: Reading) -> None:
    facts = out.facts
    out.default("what it is", engine="llama.cpp")
    if out.says("context", 0):
        facts.pop("context")
    for name in ("k", "v"):
        out.default("llama.cpp's default", **{f"kv_dtype_{name}": "f16"})


LLAMA_SERVER = Kind("llama.cpp", "llama-server", (KEYS,), has(any_=("ngl", "n_gpu_layers", "gpu_layers")), finish, "infer")

# ollama's Modelfile and variables (docs/modelfile.mdx, envconfig/config.go)
OLLAMA_KEYS: KeyTable = {
    "FROM": "model", "num_ctx": "context", "num_gpu": By(_layers, "gpu_layers"), "num_batch": "ubatch",
    "OLLAMA_NUM_PARALLEL": By(_sequences, "sequences"), "OLLAMA_CONTEXT_LENGTH": "context", "OLLAMA_KV_CACHE_TYPE": "kv_dtype",
    "OLLAMA_FLASH_ATTENTION": Coded("flash", FLAG), "ADAPTER": Unmodelled("an adapter beside the model"),
    **alike("OLLAMA_* TEMPLATE SYSTEM LICENSE MESSAGE REQUIRES RENDERER PARSER temperature top_p top_k min_p seed stop "
            "num_predict repeat_* "
            "mirostat* num_thread tfs_z typical_p num_keep presence_penalty frequency_penalty penalize_newline use_mmap "
            "draft_num_predict",
            IDLE),
}  # fmt: skip


def _ollama(out: Reading) -> None:
    out.default("what it is", engine="ollama")
    out.default("ollama's default", sequences=1)


OLLAMA = Kind("ollama-modelfile", "ollama", (OLLAMA_KEYS,), has("FROM"), _ollama, "infer")
