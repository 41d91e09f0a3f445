"""How engines divide layers over pipeline stages that do not take them evenly."""

from collections.abc import Callable

Division = Callable[[int, int], tuple[int, ...]]


def first_take_more(depth: int, stages: int) -> tuple[int, ...]:
    """Earlier stages take one more: Megatron-LM, TensorRT-LLM (tensorrt_llm/mapping.py, pp_layers).

    >>> first_take_more(62, 4)
    (16, 16, 15, 15)
    """
    return tuple(depth // stages + (stage < depth % stages) for stage in range(stages))


def last_take_more(depth: int, stages: int) -> tuple[int, ...]:
    """Later stages take one more: sglang/srt/distributed/utils.py, get_pp_indices.

    >>> last_take_more(62, 4)
    (15, 15, 16, 16)
    """
    return first_take_more(depth, stages)[::-1]


def middle_take_more(depth: int, stages: int) -> tuple[int, ...]:
    """From the last but one backwards, one more each: vllm/distributed/utils.py, get_pp_indices.

    >>> middle_take_more(62, 4), middle_take_more(31, 4)
    ((15, 16, 16, 15), (8, 8, 8, 7))
    """
    more = set(range(stages - 1 - depth % stages, stages - 1))
    return tuple(depth // stages + (stage in more) for stage in range(stages))


DIVISIONS: dict[str, Division] = {"vllm": middle_take_more, "sglang": last_take_more}


def layers_of_stages(engine: str, depth: int, stages: int) -> tuple[int, ...]:
    """Layers of each stage where nobody says them; empty for one stage."""
    return DIVISIONS.get(engine, first_take_more)(depth, stages) if stages > 1 else ()
