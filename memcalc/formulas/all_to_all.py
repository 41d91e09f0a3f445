"""Buffers through which ranks that share experts exchange tokens: DeepEP's two modes, and NVLink's one-sided workspaces.

deepseek-ai/DeepEP csrc/legacy/config.hpp and deep_ep/buffers/legacy.py; flashinfer/comm/trtllm_moe_alltoall.py. What engines
ask for: vllm/distributed/device_communicators/all2all.py (VLLM_DEEPEP_BUFFER_SIZE_MB, VLLM_MOE_DP_CHUNK_SIZE); sglang/srt/
layers/moe/token_dispatcher/deepep.py (SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK).
"""

from memcalc.formulas.formula import formula
from memcalc.frozen import NamedTuple

MEBI = 2**20
PEERS = 8  # ranks that NVLink joins, as DeepEP's normal mode has them
CHANNELS = 10  # of 20 multiprocessors
INDEX, WEIGHT, SCALES, META = 128 * 8, 128 * 4, 128 * 4, 8  # bytes a token at most: chosen experts, weights, scales, its source
RDMA_TOKENS = 128
ALL_TO_ALL = {
    "deepep-low-latency": "DeepEP's buffers for answers: a place for each token of a rank at each expert",
    "deepep-normal": "DeepEP's buffers for prompts",
    "deepep": "both (SGLang's --deepep-mode auto)",
    "one-sided": "a workspace over NVLink (FlashInfer, TensorRT-LLM)",
}


class Chunks(NamedTuple):
    """DeepEP's configurations of so many ranks, dispatch and combine: the larger chunks received, and chunks sent."""

    received: int  # tokens of a peer over NVLink
    sent: tuple[int, int]  # tokens over RDMA


CONFIGURED: dict[int, Chunks] = {
    2: Chunks(256, (6, 6)), 4: Chunks(256, (6, 6)), 8: Chunks(256, (6, 6)), 16: Chunks(288, (20, 12)), 24: Chunks(288, (8, 8)),
    32: Chunks(288, (8, 8)), 48: Chunks(288, (8, 8)), 64: Chunks(288, (8, 8)), 96: Chunks(480, (12, 8)),
    128: Chunks(560, (12, 8)), 144: Chunks(720, (12, 8)), 160: Chunks(720, (12, 8)),
}  # fmt: skip


@formula("deep-ep", "csrc/legacy/config.hpp, get_low_latency_rdma_size_hint")
def low_latency_bytes(tokens: int, experts: int, message: int) -> int:
    """Two buffers to send and two to receive, each with a place for every token of a rank at every expert.

    4 × experts × tokens × message      message [B]: hidden states in bf16, and minimum and maximum of each 128.
    Returns bytes [B].

    >>> low_latency_bytes(1840, 448, 10400) / 2**30 < 31.95  # vllm-project/vllm/issues/57894: 31.94 GiB
    True
    """
    return 4 * experts * tokens * message


def message_bytes(hidden: int) -> int:
    """Of a token on its way back: hidden states in bf16, and 4 B for each 128 of them.

    >>> message_bytes(7168)
    14560
    """
    return 2 * hidden + hidden // 128 * 4


@formula("deep-ep", "csrc/legacy/config.hpp, get_nvl_buffer_size_hint and get_rdma_buffer_size_hint")
def normal_bytes(channels: int, nvlink_tokens: int, rdma_tokens: int, token: int) -> int:
    """Chunks of tokens that are received from each peer of a node, and sent to and received from each node.

    channels × (nvlink_tokens + rdma_tokens) × token      token [B]: hidden states in bf16, chosen experts, weights and scales.
    Returns bytes [B].

    >>> normal_bytes(10, 8 * 256, 0, 2 * 7168 + 2056) // 2**20  # DeepSeek V3 on 8 ranks
    320
    """
    return channels * (nvlink_tokens + rdma_tokens) * token


@formula(
    "vllm", "distributed/device_communicators/all2all.py: VLLM_DEEPEP_BUFFER_SIZE_MB over NVLink, and as much between nodes"
)
def fixed_bytes(buffers: int) -> int:
    """Buffers of 1 GiB that vLLM gives DeepEP.

    buffers × 2³⁰      Returns bytes [B].
    """
    return buffers * 2**30


@formula("flashinfer", "comm/trtllm_moe_alltoall.py, moe_a2a_get_workspace_size_per_rank")
def one_sided_bytes(ranks: int, tokens: int, hidden: int, top_k: int) -> int:
    """Room for the tokens of every rank, as they come and as they go back, in bf16, with chosen experts and weights.

    ranks × tokens × (4 × hidden + 8 × top_k)      Returns bytes [B].

    >>> one_sided_bytes(72, 1024, 7168, 8) / 2**30 < 2
    True
    """
    return ranks * tokens * (4 * hidden + 8 * top_k)


def normal_tokens(ranks: int) -> tuple[int, int]:
    """Tokens of a channel's chunks over NVLink, and between nodes (both ways) in the larger of two configurations.

    >>> normal_tokens(8), normal_tokens(144)
    ((2048, 0), (5760, 4752))
    """
    chunks = CONFIGURED[ranks]
    nodes = ranks // PEERS if ranks > PEERS else 0
    rdma = max(-(-RDMA_TOKENS // sent) * sent for sent in chunks.sent)
    return min(ranks, PEERS) * chunks.received, 2 * nodes * rdma
