"""What engines do for some families of models alone, as their sources list them by name."""

# vLLM: models that name embedding_modules have slots of the vocabulary too (vllm/model_executor/models/*.py)
EMBEDDED = ("llama", "mistral", "ministral", "ministral3", "mixtral", "qwen3", "qwen3_moe", "qwen3_5", "qwen3_5_moe", "granite",
            "granitemoe", "granitemoehybrid", "cohere", "cohere2", "exaone", "exaone4", "apertus", "falcon_h1", "nemotron",
            "nemotron_h", "jamba", "lfm2", "lfm2_moe", "phimoe", "minicpm", "solar")  # fmt: skip


def has_vocabulary_slots(family: str) -> bool:
    """Whether vLLM's class for a family (a config's model_type) takes adapters of embedding and head.

    >>> has_vocabulary_slots("llama"), has_vocabulary_slots("gemma3")
    (True, False)
    """
    return family in EMBEDDED


# llama.cpp: architectures that --split-mode tensor refuses (src/llama-arch.cpp, llm_arch_supports_sm_tensor)
UNDIVIDED = (
    "grok", "mpt", "olmoe", "deepseek2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek4", "deepseek_v4", "kimi_k2",
    "kimi_k25", "kimi_vl", "glm_dsa", "glm_moe_dsa", "nemotron_h", "nemotron_h_moe", "granitehybrid", "granitemoehybrid",
    "lfm2moe", "lfm2_moe", "minimax_m2", "mistral4", "kimi_linear", "jamba", "falcon_h1", "mamba", "mamba2",
    "plamo2", "minicpm3", "gemma3n", "gemma3n_text", "olmo2", "bitnet", "t5", "inkling", "inkling_mm_model", "inkling_text",
)  # fmt: skip


def divides_matrices(family: str) -> bool:
    """Whether llama.cpp divides the matrices of a family (a config's model_type, or a GGUF file's architecture) over GPUs.

    >>> divides_matrices("llama"), divides_matrices("glm-dsa")
    (True, False)
    """
    return family.replace("-", "_") not in UNDIVIDED
