"""Which model classes of vLLM have slots for adapters of embedding and head."""

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
