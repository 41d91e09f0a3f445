"""TensorRT-LLM's own numbers, PyTorch backend: which CUDA graphs it captures, and what its estimation run asks for
(tensorrt_llm/llmapi/llm_args.py, CudaGraphConfig; _torch/pyexecutor/_util.py, KvCacheCreator)."""

LARGEST = 128  # batch that a graph is captured for, where none is said


def graph_sizes(largest: int) -> int:
    """Batches that graphs are captured for, without padding: 1 to 31, 32, 64, 128, powers of two, and the largest.

    >>> graph_sizes(128), graph_sizes(8), graph_sizes(2048)
    (34, 8, 38)
    """
    sizes = {*range(1, 32), 32, 64, 128, *(2**power for power in range(8, largest.bit_length())), largest}
    return sum(size <= largest for size in sizes)


def profiled_requests(tokens: int, context: int) -> int:
    """Requests of the run that measures the peak, each of the whole context, together one pass.

    >>> profiled_requests(8192, 131072), profiled_requests(8192, 3000)
    (1, 3)
    """
    return -(-tokens // min(tokens, context))
