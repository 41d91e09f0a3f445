"""Buffers of attention over the tokens of several context-parallel ranks."""

from memcalc.formulas.formula import ESTIMATE, formula


@formula("transformer-engine", "buffers of AttnFuncWithCPAndKVP2P, …KVAllGather and …QKVOA2A", ESTIMATE)
def exchange_bytes(query: float, query_copies: int, keys_values: float, keys_values_copies: int, tokens: int) -> int:
    """What one layer's attention holds in its backward beside saved tensors and the gradients that it returns.

    (query × query_copies + keys_values × keys_values_copies) × tokens

    query, keys_values [B per token of this rank], tokens [count] of a micro-batch on this rank. Copies: ring 1 and 4 (two
    buffers of keys, values and their gradients, and a step's gradients, less those that are the result); all-gather 1 and
    3 × cp (all ranks' keys and values, their gradients, a step's gradients); all-to-all 2 and 2 (sent, received).
    Returns bytes [B].

    >>> exchange_bytes(query=8192, query_copies=1, keys_values=4096, keys_values_copies=4, tokens=8192)
    201326592
    """
    return int((query * query_copies + keys_values * keys_values_copies) * tokens)
