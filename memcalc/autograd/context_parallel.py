"""Context parallelism around an attention kernel: how a rank's queries meet the keys and values of other ranks' tokens.

Sizes follow Transformer Engine (transformer_engine/pytorch/attention/dot_product_attention/context_parallel.py): ring is
AttnFuncWithCPAndKVP2P, all-gather AttnFuncWithCPAndKVAllGather, all-to-all AttnFuncWithCPAndQKVOA2A (DeepSpeed-Ulysses,
Jacobs et al. 2023). Kernels keep the same in all three: a rank has its own tokens' queries of all its heads, or all tokens'
queries of its share of them.
"""

from collections.abc import Callable

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Exchange, Size, Step, Tape, Var

Kernel = Callable[[Var, Var, Var], Var]


def exchanged(t: Tape, p: Profile, kernel: Kernel, query: Var, key: Var, value: Var) -> Var:
    """The attention result with the keys and values of all ranks."""
    keys_values = (key.bytes + value.bytes).token
    _send(t, p, query, key, value)
    if p.degrees.cp_kind == "all-to-all":
        t.exchanges.append(Exchange(query.bytes.token, keys_values, 2, 2))
        spread = (_redistributed(t, x, name) for x, name in ((query, "queries"), (key, "keys"), (value, "values")))
        return _redistributed(t, kernel(*spread), "result")
    if p.degrees.cp_kind == "all-gather":
        return _all_gather(t, p, kernel, query, key, value)
    return _ring(t, p, kernel, query, key, value)


def _send(t: Tape, p: Profile, query: Var, key: Var, value: Var) -> None:
    """What travels: in a ring keys and values around, and their gradients after them; gathered, all at once; or all four
    tensors of attention from a share of tokens to a share of heads and back."""
    kv, cp = key.bytes + value.bytes, p.degrees.cp
    if p.degrees.cp_kind == "all-to-all":
        t.send("cp", kv + query.bytes * 2, ("all-to-all",), ("all-to-all",) if query.grad else ())
    elif p.degrees.cp_kind == "all-gather":
        t.send("cp", kv * cp, ("all-gather",), ("all-gather", "reduce-scatter") if query.grad else ())
    else:
        t.send("cp", kv * cp, ("ring",), ("ring", "ring") if query.grad else ())


def _ring(t: Tape, p: Profile, kernel: Kernel, query: Var, key: Var, value: Var) -> Var:
    """Keys and values travel from neighbour to neighbour.

    Backward: two buffers of keys, values and their gradients, one to send and one to receive; and a step's gradients of
    queries, keys and values. One pair of all those is the result. Forward: what arrived in each step, and each step's result
    until all are corrected by the common log-sum-exp.
    """
    keys_values = (key.bytes + value.bytes).token
    made = Exchange(query.bytes.token, keys_values, 1, 4)
    passing = Size(token=query.bytes.token + keys_values * (p.degrees.cp + 1))
    return _with_buffers(t, kernel, (query, key, value), made, passing, results=p.degrees.cp + 1)


def _all_gather(t: Tape, p: Profile, kernel: Kernel, query: Var, key: Var, value: Var) -> Var:
    """Keys and values of all tokens are gathered, in the backward anew; kept are a rank's own (Llama Team 2024, section 3.3.2).

    Backward: they, their gradients, and one step's gradients, each for all tokens. Forward: keys are put in order into a copy.
    A rank's two chunks of the sequence are computed apart: each chunk's result is kept, and both are copied into the whole.
    """
    keys_values = (key.bytes + value.bytes).token
    made = Exchange(query.bytes.token, keys_values, 1, 3 * p.degrees.cp)
    passing = Size(token=query.bytes.token + keys_values * (p.degrees.cp + 1) + key.bytes.token * p.degrees.cp)
    out = _with_buffers(t, kernel, (query, key, value), made, passing, results=2)
    return t.emit("joined chunks", [out], out.elements, out.each, (), [Step("share")])


def _with_buffers(t: Tape, kernel: Kernel, inputs: tuple[Var, Var, Var], made: Exchange, passing: Size, results: int) -> Var:
    """The kernel, with buffers while its backward runs, and others while its forward does."""
    before = t.saved_bytes()
    out = kernel(*inputs)
    t.passing.append(before + passing + out.bytes * results)
    t.exchanges.append(made)
    if out.grad:
        node = t.nodes[-1]
        node.steps = (Step("temp", made.bytes), *node.steps)
    return out


def _redistributed(t: Tape, x: Var, name: str) -> Var:
    """From all heads of a rank's tokens to all tokens of its share of heads, or back: a copy in order, and what arrives."""
    steps = [Step("temp", x.bytes), Step("input", x.bytes)]
    return t.emit(f"{name} redistributed", [x], x.elements, x.each, (), steps)
