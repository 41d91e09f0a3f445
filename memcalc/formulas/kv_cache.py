"""Bytes of the key/value cache."""

from memcalc.formulas.formula import formula


@formula("ainslie-2023", "section 2: keys and values of kv_heads heads")
def kv_cache_bytes(width: int, tokens: int, layers: int, bytes_numerator: int, bytes_denominator: int) -> int:
    """Keys and values of all tokens in the layers of one kind.

    ceil(width × tokens × layers × bytes_numerator / bytes_denominator)

    width [elements per token and layer] = kv_heads × (head_dim + v_head_dim) on this GPU; tokens are those kept, over all
    sequences; bytes_numerator / bytes_denominator is the exact size of one element in the cache's format. Returns bytes [B].

    >>> kv_cache_bytes(width=2048, tokens=8192, layers=32, bytes_numerator=2, bytes_denominator=1)  # Llama 3 8B at 8k
    1073741824
    """
    return -(-width * tokens * layers * bytes_numerator // bytes_denominator)
