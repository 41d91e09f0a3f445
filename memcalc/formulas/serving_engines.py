"""How serving engines account for memory: one row an engine. A user's choice of engine changes numbers only through it."""

import re
from math import inf
from typing import Literal

from memcalc.caches import cached
from memcalc.frozen import NamedTuple


class ServingEngine(NamedTuple):
    """An engine's defaults and habits, of the version that `note` names."""

    name: str
    note: str
    block: int = 1  # tokens that a sequence's cache grows by
    utilization: float | None = 0.9  # share of the GPU it may take by default; None: worked out from the GPU's memory
    share_of: Literal["total", "loaded", "free"] = (
        "total"  # of the GPU, of what its context leaves, of what all but the cache leaves
    )
    pooled: bool = False  # takes the whole of its share at start, for a pool that all sequences draw from
    window: Literal["window", "last", "batched", "padded", "ring", "rotating", "whole"] = "window"  # a row of WINDOWS
    grouped: bool = False  # layers of several kinds share one pool of equal pages (vLLM's hybrid cache)
    page_patterns: bool = False  # of pages that differ in size, a block has as many of each (vLLM before 0.33)
    shares: bool = False  # a prompt's cache serves all its samples, a common prefix all requests
    batched_tokens: int = 8192  # in one forward pass, by default; smaller on GPUs below LARGE, SGLang: STEPS
    batched_tokens_small: int = 8192
    sequences: int | None = None  # that one step's logits are kept for; None: as many as are served
    sequences_small: int | None = None
    schedules: bool = True  # runs no more than those at once
    starts_with_share: bool = False  # refuses to start where less than its share is free (vLLM's request_memory)
    passes_in_flight: int = 1  # whose blocks a layer with a window keeps beside it (vLLM's asynchronous scheduling)
    block_of_state: bool = False  # refuses to start where a step's sequences exceed the blocks of state (vLLM pull 38270)
    whole_context: bool = False  # where no length is given it serves the model's maximum
    whole_prompt: bool = False  # a forward pass takes every prompt whole, however long
    absorbs: bool = False  # latent attention's up-projection is taken into queries and outputs: from a 16-bit copy
    rotary_table: bool = False  # keeps cosines and sines of every position
    tokens_by_group: bool = False  # its log counts the tokens that one of its groups of layers could have for itself
    index_format: str = ""  # of a sparse-attention indexer's keys; "": the cache's
    convolution_columns: int = 0  # of a recurrent layer's convolution, beside its kernel's width
    state_format: str = ""  # of recurrent states; "": as the library keeps them
    expands: bool = False  # caches keys and values that are broadcast to all query heads as it has them then (Falcon 40B)
    host_embedding: bool = False  # the token embedding stays in host memory
    graphs: bool = False  # captures CUDA graphs
    graphs_inside: bool = False  # their estimate is a part of the share, and comes on top of it otherwise
    sampler: Literal["", "vllm", "sorted", "logits"] = ""  # what sampling allocates
    since: str = ""  # the first release that the row describes
    all_logits: bool = False  # llama.cpp: the compute buffer has a row of logits for every token of a physical batch
    wide_mask: bool = False  # llama.cpp: masks are fp32, cast to fp16 for flash attention
    head_last: bool = False  # llama.cpp: the head is offloaded after all layers, not before them (pull 18148)
    copies_cache: bool = False  # llama.cpp: the compute buffer has an fp16 copy of one layer's quantised cache
    windowed_models: tuple[str, ...] | None = None  # those whose sliding layers keep less than all tokens; None: all
    window_share: tuple[int, int] | None = None  # of its tokens that the others have, for which sliding layers have a pool
    window_shares: tuple[tuple[str, tuple[int, int]], ...] = ()  # the same of model types that have their own
    states_in_window: bool = False  # compressors' states all share the pool of windows
    state_share: tuple[int, int] | None = None  # of its cache, a pool for recurrent states
    state_slots: int = 1  # of that pool, for one running sequence
    request_table: bool = False  # a row for each request that may run, with the place of each of its tokens
    sparse_fp8: str = ""  # of latents that an indexer picks from, where the cache is fp8; "": plain
    blackwell_fp8: tuple[str, ...] | None = None  # model types whose latents are so on Blackwell unasked; None: all
    caches: tuple[str, ...] = ()  # formats that it takes beside 32- and 16-bit floats; (): any
    drafts: tuple[str, ...] = ("model", "mtp", "ngram")  # of memcalc.formulas.drafts
    prefill_graphs: Literal["", "compiled", "segments"] = ""  # SGLang: CUDA graphs of prefill passes too
    draft_reserve: tuple[int, int] = (0, 0)  # SGLang: MiB that its share leaves for a draft's head, for a draft model
    draft_tables: bool = False  # SGLang: its cache is sized beside a draft's own token table and head, which it frees then
    exchanges: tuple[str, ...] = ()  # of memcalc.formulas.all_to_all, that it takes
    exchange_tokens: int = 256  # of a rank in a low-latency message, where nobody says
    fixed_exchange: bool = False  # its buffers beside that message have one size, whatever is sent
    like: str = ""  # another engine, which it starts or is built on: its kernels, formats and ranges hold
    margin: int = 0  # bytes that it leaves free on a GPU, or else moves layers to host memory (llama.cpp's common/fit.cpp)
    makers: tuple[str, ...] = ()  # of the accelerators that it runs on; (): any
    tiers: tuple[tuple[int, int], ...] = ()  # bytes of all GPUs, and the context that it takes from there on by default
    refuses_rows: bool = False  # llama.cpp: its builds for CUDA divide no rows (--split-mode row)
    table_on_host: bool = False  # a token table on its own in host memory, whatever else is
    experts_on_host: bool = False  # routed experts in host memory, but for a number of each layer (KTransformers)
    slot_states: bool = False  # states and windows of all sequences of a step from the start, used or not
    slots: int = 0  # requests that share its context by default, in one pool of cells
    profiles_inputs: bool = False  # its peak is measured with images, and with earlier context of latent attention (vLLM)
    profiles_prompts: bool = False  # its peak is measured with as many prompts as fill a pass (TensorRT-LLM)
    unpadded_graphs: bool = False  # captures a graph for each small batch, without padding (memcalc.formulas.trtllm)
    expert_workspaces: bool = False  # what routed experts compute in is kept for all layers
    request_groups: bool = False  # divides requests among groups of ranks (attention data parallelism)
    adapts_experts: bool = False  # slots of adapters stand beside experts, embedding and head too, not beside linears alone
    shards_adapters: bool = False  # can divide those slots over ranks (vLLM's fully_sharded_loras)
    reuses_buffers: bool = False  # keeps what it frees until its limit, which is not counted (MLX)
    sized_steps: bool = False  # ollama: tokens of a pass by context and by what is free (memcalc.formulas.ollama)
    weights: str = ""  # of a decoder that names none: what its catalogue gives then; "": the checkpoint's 16 bits
    catalogue: str = ""  # which that is, and who says so

    @property
    def key(self) -> str:
        """One row of RELEASES: vllm@0.21."""
        return f"{self.name}@{self.since}"

    @property
    def uses_host(self) -> bool:
        """Whether what stands in host memory is counted."""
        return self.host_embedding or self.table_on_host or self.experts_on_host

    @property
    def kin(self) -> str:
        """The engine whose kernels and formats these are."""
        return self.like or self.name


# ollama server/routes.go, Serve: by the memory of all GPUs, with a little less than 48 and 24 GiB
OLLAMA_TIERS = ((47 * 2**30, 262_144), (23 * 2**30, 32_768), (0, 4096))
LARGE = 70 * 2**30  # bytes of GPU memory from which vLLM's larger defaults hold

PLAIN = ServingEngine("", "no engine: weights, the tokens' cache and states, and what a CUDA process holds")

_FP8 = ("fp8-e4m3", "fp8-e5m2")
_SLOTTED = (
    *_FP8, "fp8-ds-mla", "nvfp4", "int8-per-token-head", "fp8-per-token-head", "int4-per-token-head", "turboquant-k8v4",
    "turboquant-4bit-nc", "turboquant-k3v4-nc", "turboquant-3bit-nc",
)  # fmt: skip

VLLM = ServingEngine(
    "vllm", "vLLM 0.33, V1", since="0.33", block=16, pooled=True, window="batched", grouped=True, shares=True,
    batched_tokens_small=2048, sequences=1024, sequences_small=256, absorbs=True, rotary_table=True, index_format="fp8-g128",
    convolution_columns=-1, graphs=True, sampler="vllm", starts_with_share=True, block_of_state=True,
    utilization=0.92, graphs_inside=True,  # vllm/config/cache.py; vllm/v1/worker/gpu_worker.py, since pull 38284
    passes_in_flight=2,  # vllm/config/vllm.py, max_concurrent_batches and max_in_flight_tokens: since pull 47728, 0.26
    whole_context=True,  # vllm/config/model.py: max_model_len None is derived from the model's config
    drafts=("model", "mtp", "eagle", "eagle3", "dflash", "ngram", "suffix"),  # vllm/config/speculative.py
    exchanges=("deepep-low-latency", "deepep-normal", "one-sided"),  # vllm/config/parallel.py, All2AllBackend
    fixed_exchange=True, blackwell_fp8=("glm_moe_dsa",),  # vllm/model_executor/models/config.py, GlmMoeDsaForCausalLM
    sparse_fp8="fp8-ds-mla", caches=(*_SLOTTED, "nvfp4-ds-mla"),  # vllm/config/cache.py, CacheDType
    profiles_inputs=True, expert_workspaces=True, adapts_experts=True, shards_adapters=True,
)  # fmt: skip

LLAMA_CPP = ServingEngine(
    "llama.cpp", "llama.cpp since August 2026", block=256, utilization=1.0, window="padded", batched_tokens=512,
    batched_tokens_small=512, convolution_columns=-1, state_format="fp32", host_embedding=True, since="2026.8",
    whole_context=True,  # common/common.h: n_ctx 0 is the context that the model was trained with
    copies_cache=True,  # pull 23907; masks in fp16: pull 23764; logits of one token a sequence: pull 23861
    margin=2**30,  # common/common.h: fit_params_target
    refuses_rows=True,  # "device CUDA0 does not support split buffers": pull 24216
)  # fmt: skip

OLLAMA = LLAMA_CPP._replace(
    name="ollama", like="llama.cpp", since="0.30", note="ollama 0.30 and later, which starts llama-server",
    whole_context=False, tiers=OLLAMA_TIERS, sized_steps=True,
    weights="Q4_K_M", catalogue="`ollama pull` brings without a tag (ollama.com/library, huggingface.co/docs/hub/ollama)",
)  # fmt: skip

# srt/configs/model_config.py, is_hybrid_swa_model: whose sliding layers have a pool of their own; others keep every token
_WINDOWED = ("llama4", "llama4_text", "gpt_oss", "mimo_v2_flash", "step3p5")
_WINDOWED_NOW = (
    *_WINDOWED, "gemma4", "gemma4_text", "gemma4_unified", "deepseek_v4", "mimo_v2", "step3p7", "laguna", "inkling", "mellum",
    "granite_swa", "granitemoe_swa", "muse_glimmer", "iquest_q1",
)  # fmt: skip

_SGLANG = ServingEngine(
    "sglang", "SGLang 0.5.20 and later", since="0.5.20", utilization=None, share_of="loaded", pooled=True, shares=True,
    batched_tokens_small=4096, sequences=256, sequences_small=48, schedules=False, absorbs=True, rotary_table=True,
    index_format="fp8-g128", convolution_columns=-1, graphs=True, sampler="logits",
    whole_context=True,  # srt/configs/model_config.py: context_length None is the derived one
    windowed_models=_WINDOWED_NOW, window_share=(4, 5),  # --swa-full-tokens-ratio 0.8
    window_shares=(("deepseek_v4", (1, 10)),),  # srt/arg_groups/overrides.py, _deepseek_v4_overrides
    state_share=(9, 19), state_slots=5,  # --mamba-full-memory-ratio 0.9; 3 a request, 2 more of the extra buffer
    request_table=True, prefill_graphs="segments", request_groups=True,
    draft_tables=True,  # srt/managers/scheduler.py, init_memory_pools: issue 36452, still so in September 2026
    drafts=("model", "mtp", "eagle", "eagle3", "dflash", "ngram"),  # srt/speculative/spec_info.py
    exchanges=("deepep-low-latency", "deepep-normal", "deepep"),  # srt/layers/moe/utils.py, DeepEPMode
    exchange_tokens=128,  # SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK
    sparse_fp8="fp8-ds-mla", caches=(*_FP8, "mxfp8", "nvfp4"),  # srt/arg_groups/fields/model.py, kv_cache_dtype
)  # fmt: skip
# Changes: srt/server_args.py of 0.5.9, 0.5.10, 0.5.13, 0.5.14 and 0.5.19; srt/arg_groups/memory_hook.py of 0.5.23.
_SGLANG_EARLIER = _SGLANG._replace(batched_tokens_small=2048, sequences_small=24)
SGLANG = (
    _SGLANG,
    _SGLANG_EARLIER._replace(note="SGLang 0.5.14 to 0.5.19", since="0.5.14"),
    _SGLANG_EARLIER._replace(note="SGLang 0.5.10 to 0.5.13", since="0.5.10", windowed_models=(*_WINDOWED, "deepseek_v4"),
                             state_slots=3, states_in_window=True,
                             prefill_graphs="compiled", draft_reserve=(4096, 6144), draft_tables=False,
                             drafts=("model", "mtp", "eagle", "eagle3", "ngram")),
    _SGLANG_EARLIER._replace(note="SGLang 0.5 to 0.5.9", since="0.5", windowed_models=_WINDOWED, state_slots=3,
                             prefill_graphs="", draft_reserve=(2048, 6144), draft_tables=False,
                             drafts=("model", "mtp", "eagle", "eagle3", "ngram")),
)  # fmt: skip

# Drafts beside which vLLM schedules no step ahead: vllm/config/vllm.py, async_scheduling (EAGLE's kin and MTP alone)
SYNCHRONOUS = ("model", "medusa", "ngram", "suffix")

# Newest first; of an engine's rows the first is the one that its name alone means.
RELEASES: dict[str, ServingEngine] = {
    row.key: row
    for row in (
        VLLM,
        VLLM._replace(
            note="vLLM 0.26 to 0.32, V1", since="0.26", drafts=(*VLLM.drafts, "medusa"), caches=_SLOTTED, page_patterns=True,
        ),
        VLLM._replace(
            note="vLLM 0.21 to 0.25, V1", since="0.21", drafts=(*VLLM.drafts, "medusa"), caches=_SLOTTED, passes_in_flight=1,
            page_patterns=True,
        ),
        VLLM._replace(
            note="vLLM 0.17 to 0.20, V1", since="0.17", utilization=0.9, graphs_inside=False, passes_in_flight=1,
            page_patterns=True,
            tokens_by_group=True,  # v1/core/kv_cache_utils.py, _report_kv_cache_config: num_blocks // groups × block
            drafts=("model", "mtp", "eagle", "eagle3", "medusa", "ngram", "suffix"), caches=(*_FP8, "fp8-ds-mla"),
        ),
        *SGLANG,
        ServingEngine(
            "tensorrt-llm", "TensorRT-LLM 1.0, PyTorch backend", since="1.0", block=32, share_of="free", pooled=True,
            shares=True, sequences=2048, convolution_columns=-1, graphs=True, sampler="logits",
            windowed_models=(),  # _torch/pyexecutor/_util.py: all, unless kv_cache_config.max_attention_window says so
            slot_states=True,  # _torch/pyexecutor/mamba_cache_manager.py: [max_batch_size, …], before the cache is measured
            exchanges=("one-sided",),  # _torch/modules/fused_moe/communication/nvlink_one_sided.py
            drafts=("model", "mtp", "eagle3", "ngram"),  # nvidia.github.io/TensorRT-LLM, features/speculative-decoding
            caches=("fp8-e4m3", "nvfp4", "int8"),  # llmapi/llm_args.py, KvCacheConfig.dtype
            profiles_prompts=True, unpadded_graphs=True, request_groups=True,
        ),
        LLAMA_CPP,
        LLAMA_CPP._replace(note="llama.cpp of June and July 2026", since="2026.6", refuses_rows=False),
        LLAMA_CPP._replace(
            note="llama.cpp of early 2026", since="2026", all_logits=True, wide_mask=True, copies_cache=False,
            refuses_rows=False,
        ),
        LLAMA_CPP._replace(
            note="llama.cpp of 2025", since="2025", all_logits=True, wide_mask=True, copies_cache=False, head_last=True,
            refuses_rows=False,
            margin=0,
        ),
        LLAMA_CPP._replace(
            note="llama.cpp of 2024", since="2024", all_logits=True, wide_mask=True, copies_cache=False, head_last=True,
            refuses_rows=False,
            window="whole",  # layers with a window have a cache of their own since pull 13194
            margin=0,
        ),
        OLLAMA,
        OLLAMA._replace(  # runner/ollamarunner, runner/llamarunner, with a llama.cpp of early 2026 and before
            note="ollama 0.15.5 to 0.24, with runners of its own", since="0.15.5", all_logits=True, wide_mask=True,
            copies_cache=False, margin=0, sized_steps=False,
        ),
        LLAMA_CPP._replace(
            name="lmstudio", like="llama.cpp", since="0.4", note="LM Studio 0.4, its llama.cpp runtime", whole_context=False,
            margin=0, tiers=((0, 4096),), slots=4,  # lmstudio.ai/docs/app/advanced/parallel-requests
            window="whole",  # llama_context_default_params: swa_full; its log in lmstudio-bug-tracker issue 900
            weights="Q4_K_M", catalogue="LM Studio recommends on most hardware (lms, src/subcommands/get.ts)",
        ),
        ServingEngine(  # pip: mlx-lm; whole prompts in chunks of --prefill-step-size
            "mlx", "mlx-lm 0.32, on Apple's GPUs", since="0.32", block=256, utilization=1.0, window="rotating",
            batched_tokens=2048, batched_tokens_small=2048, convolution_columns=-1, makers=("Apple",), reuses_buffers=True,
        ),
        ServingEngine(  # Cache(max_batch_size=16); Generator(max_chunk_size=2048)
            "exllamav3", "ExLlamaV3 1.4", since="1.4", block=256, utilization=1.0, window="ring", batched_tokens=2048,
            batched_tokens_small=2048, sequences=16, convolution_columns=-1, slot_states=True, table_on_host=True,
            makers=("NVIDIA",),
        ),
        _SGLANG._replace(
            name="ktransformers", like="sglang", note="KTransformers: kt-kernel in SGLang", experts_on_host=True,
            makers=("NVIDIA", "AMD"), request_groups=False,
        ),
        ServingEngine(
            "transformers", "transformers 5, dynamic cache", since="5", utilization=1.0, window="last", whole_prompt=True,
            expands=True, sampler="sorted", drafts=("model", "ngram"),  # generation/candidate_generator.py
        ),
    )
}  # fmt: skip
_NEWEST = {row.name: row for row in reversed(RELEASES.values())}
SERVING_ENGINES: dict[str, ServingEngine] = {row.name: _NEWEST[row.name] for row in RELEASES.values()}


def release(name: str, version: str | None = None) -> ServingEngine | None:
    """The row of an engine that describes a version: the newest that is no newer; None where all are.

    >>> release("llama.cpp", "2025.11").since, release("llama.cpp").since, release("vllm", "0.6")
    ('2025', '2026.8', None)
    """
    if version is None:
        return SERVING_ENGINES[name]
    rows = (row for row in RELEASES.values() if row.name == name)
    return next((row for row in rows if numbers(row.since) <= numbers(version)), None)


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparison.

    >>> numbers("v0.21.1rc2"), numbers("2026-06")
    ((0, 21, 1), (2026, 6))
    """
    found = re.match(r"v?(\d{1,6}(?:[.-]\d{1,6})*)", version)
    return tuple(map(int, re.split(r"[.-]", found[1]))) if found else ()


MEBI, GIBI = 2**20, 2**30


class Defaults(NamedTuple):
    """What an engine takes on GPUs below so many bytes."""

    below: float
    batched_tokens: int  # in one forward pass
    sequences: int | None  # that one step's logits are kept for
    sequences_split: int | None = None  # the same where four ranks or more split each layer; None: no other


# --chunked-prefill-size, and --cuda-graph-max-bs with --tp below 4 and from 4 (sglang/srt/server_args.py, since 0.5.4; changed
# in 0.5.20)
STEPS: dict[str, tuple[Defaults, ...]] = {
    "sglang@0.5.20": (
        Defaults(20 * GIBI, 2048, 8),
        Defaults(35 * GIBI, 4096, 48, 160),
        Defaults(60 * GIBI, 4096, 32, 160),
        Defaults(160 * GIBI, 8192, 256, 512),
        Defaults(inf, 16384, 512),
    ),
    "sglang": (
        Defaults(20 * GIBI, 2048, 8),
        Defaults(35 * GIBI, 2048, 24, 80),
        Defaults(60 * GIBI, 4096, 32, 160),
        Defaults(160 * GIBI, 8192, 256, 512),
        Defaults(inf, 16384, 512),
    ),
}


def defaults(row: ServingEngine, memory: int) -> Defaults:
    """Of the engine on a GPU of so many bytes; without one (0), on one of 80 GiB.

    >>> defaults(SERVING_ENGINES["vllm"], 24 * GIBI).batched_tokens
    2048
    """
    memory, key = memory or 80 * GIBI, row.key
    return _of_release(key, memory) if RELEASES.get(key) is row else _defaults(row, memory)


@cached(512)  # an estimate asks some eight times
def _of_release(key: str, memory: int) -> Defaults:
    return _defaults(RELEASES[key], memory)


def _defaults(row: ServingEngine, memory: int) -> Defaults:
    if steps := STEPS.get(row.key) or STEPS.get(row.kin):
        return next(step for step in steps if memory < step.below)
    if memory < LARGE:
        return Defaults(LARGE, row.batched_tokens_small, row.sequences_small or row.sequences)
    return Defaults(inf, row.batched_tokens, row.sequences)
