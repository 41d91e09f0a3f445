"""What ollama takes where nobody says: the context by the memory of all GPUs, and the tokens of a pass by what is free.

Source: ollama 0.30 to 0.33, server/routes.go (Serve) and server/sched.go (automaticGenerationBatch); llm/llama_server.go
(PredictServerVRAM).
"""

GIBI, MEBI = 2**30, 2**20
USABLE = 80  # percent of what is free that a prediction may take

# Tokens of a pass, largest first: the context above which it is tried, the percent of what is free that the prediction may
# come to, and what it is taken to add [B].
STEPS = ((2048, 32_768, 60, 2 * GIBI), (1024, 4096, 75, 768 * MEBI))
LEAST = 512
CONSTRAINED, SMALL_CARD = 256, 8 * GIBI  # without flash attention on a card of so much, with more than 4,096 tokens


def default_context(tiers: tuple[tuple[int, int], ...], memory: int) -> int:
    """Tokens of a context on GPUs of `memory` bytes together.

    >>> tiers = ((47 * GIBI, 262_144), (23 * GIBI, 32_768), (0, 4096))
    >>> default_context(tiers, 24 * GIBI), default_context(tiers, 16 * GIBI)
    (32768, 4096)
    """
    return next(tokens for least, tokens in tiers if memory >= least)


def predicted_bytes(stored: int, layers: int, kv_heads: int, hidden: int, heads: int, context: int) -> int:
    """What ollama takes a model for before it starts it: the file, and keys and values of every layer in fp16.

    stored + 4 × layers × kv_heads × (hidden // heads) × context      stored [B]. Returns bytes [B].

    >>> predicted_bytes(0, 32, 8, 4096, 32, 8192) // MEBI  # Llama 3 8B
    1024
    """
    return stored + 4 * layers * max(1, kv_heads) * (hidden // heads if heads else 0) * context


def batched_tokens(context: int, predicted: int, free: int, flash: bool = True, cuda: bool = True) -> int:
    """Tokens of a pass: the most whose stated surcharge fits. `free` [B]: 0 where no GPU is named.

    >>> batched_tokens(131_072, 10 * GIBI, 80 * GIBI), batched_tokens(131_072, 19 * GIBI, 24 * GIBI)
    (2048, 512)
    >>> batched_tokens(8192, 5 * GIBI, 8 * GIBI), batched_tokens(8192, 5 * GIBI, 8 * GIBI, flash=False)
    (1024, 256)
    """
    if not flash and cuda:
        return CONSTRAINED if context > STEPS[-1][1] and 0 < free <= SMALL_CARD else LEAST
    usable = free * USABLE // 100
    for tokens, above, percent, surcharge in STEPS:
        fits = not free or (predicted <= free * percent // 100 and surcharge <= usable - predicted)
        if context > above and fits:
            return tokens
    return LEAST
