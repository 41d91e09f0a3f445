"""How servers of a data centre divide a model, its cache and their work: ranks, stages, roles, tiers of the cache, graphs."""

from typing import Annotated

from pydantic import Field

from memcalc.formulas.all_to_all import ALL_TO_ALL, CONFIGURED
from memcalc.specs.offloading import Offloading
from memcalc.specs.spec import ENGINE_LIMITS, EXPERTS, REQUESTS, SHARDING, STATES, Flag, OneOf, SpecError, setting, within

MOST_STAGES = 1024
ROLES = {
    "prefill": "reads prompts and hands their cache on: keeps no answers, captures no decode graphs (SGLang)",
    "decode": "answers from a cache that it is handed: reads no prompts (SGLang reserves no pass of them)",
}
StageLayers = Annotated[tuple[Annotated[int, Field(ge=1, le=100_000)], ...], Field(strict=False, max_length=MOST_STAGES)]


class ServingLayout(Offloading):
    """Settings that most servers have, and llama.cpp and its kin have not."""

    pp_layers: StageLayers = setting(
        (), "Layers of each pipeline stage, as VLLM_PP_LAYER_PARTITION has them: 20,21,20.", SHARDING, kind="parts",
        otherwise="as the engine divides them",
    )  # fmt: skip
    attention_dp: Annotated[int, within(1, 65536)] = setting(
        1,
        "Groups of the --tp ranks with requests of their own, --batch each, whose attention is not divided further.",
        SHARDING,
    )
    redundant_experts: Annotated[int, within(0, 65536)] = setting(
        0, "Experts of each layer that are held once more, all --ep ranks together.", EXPERTS
    )
    all_to_all: Annotated[str, OneOf(tuple(ALL_TO_ALL))] | None = setting(
        None, "Whose buffers the --ep ranks exchange tokens through: --all2all-backend, --moe-a2a-backend.", EXPERTS,
        metavar="LIBRARY", otherwise="NCCL, without buffers of its own", choices=ALL_TO_ALL,
    )  # fmt: skip
    all_to_all_tokens: Annotated[int, within(1, 2**20)] | None = setting(
        None, "Tokens of a rank that those buffers have room for.", EXPERTS,
        otherwise="of answers vLLM 256, SGLang 128; of a workspace those of a pass",
    )  # fmt: skip
    role: Annotated[str, OneOf(tuple(ROLES))] | None = setting(
        None, "One side of disaggregated serving.", ENGINE_LIMITS, otherwise="both", choices=ROLES
    )
    transfer_buffer: Annotated[int, within(0, 10**15)] = setting(
        0, "Memory of each GPU for buffers that hand a cache on (NIXL and Mooncake read it where it stands).", ENGINE_LIMITS,
        kind="bytes",
    )  # fmt: skip
    cache_tokens: Annotated[int, within(1, 2**40)] | None = setting(
        None, "Tokens that the cache holds at most: --max-total-tokens.", ENGINE_LIMITS, otherwise="what its memory holds"
    )
    cache_offload: Annotated[int, within(2**20, 10**15)] | None = setting(
        None, "Host memory for blocks of the cache that leave each GPU: 32GiB.", ENGINE_LIMITS, kind="bytes", otherwise="none"
    )
    prefix_hit_rate: Annotated[float, within(0.0, 0.999)] = setting(
        0.0, "Share of a prompt's tokens that is found in the cache, there once for all requests.", REQUESTS, kind="share"
    )
    max_graph_batch: Annotated[int, within(1, 65536)] | None = setting(
        None, "Largest batch that a CUDA graph is captured for.", ENGINE_LIMITS, otherwise="the engine's"
    )
    sharded_adapters: Flag = setting(False, "LoRA slots divided as far as the matrices are: --fully-sharded-loras.", STATES)
    images_per_prompt: Annotated[int, within(0, 65536)] | None = setting(
        None, "Images that a prompt may have, for which vLLM's profile leaves room: --limit-mm-per-prompt.", REQUESTS,
        otherwise="as many as a pass takes",
    )  # fmt: skip
    language_model_only: Flag = setting(False, "Without towers for images and sound, and what they take.", STATES)

    def check_layout(self, tp: int, pp: int, ep: int, shared: int) -> None:
        """Rules of these settings alone, for so many ranks and tokens of a common prefix."""
        if self.pp_layers and len(self.pp_layers) != pp:
            raise SpecError(f"names {len(self.pp_layers)} stages for {pp}; give one number for each", "pp_layers", "pp")
        if tp % self.attention_dp:
            raise SpecError(f"{self.attention_dp} groups do not divide {tp} ranks", "attention_dp", "tp")
        if self.attention_dp > 1 and ep > tp:
            raise SpecError("groups of ranks are those of --tp: give tp as all of them, or ep beyond tp alone", "attention_dp")
        if self.redundant_experts and ep == 1:
            raise SpecError("are of expert parallelism; give ep", "redundant_experts", "ep")
        self._check_exchange(ep)
        if self.prefix_hit_rate and shared:
            raise SpecError("is a share of the prompt where shared_prefix is tokens; give one", "prefix_hit_rate")

    def _check_exchange(self, ep: int) -> None:
        """Buffers are of ranks that share experts; DeepEP's normal mode of as many as it has a configuration for."""
        if self.all_to_all and ep == 1:
            raise SpecError("is of ranks that share experts; give ep", "all_to_all", "ep")
        if self.all_to_all_tokens and self.all_to_all in (None, "deepep-normal"):
            raise SpecError("is of deepep-low-latency, deepep and one-sided; name one as all_to_all", "all_to_all_tokens")
        if self.all_to_all in ("deepep", "deepep-normal") and ep not in CONFIGURED:
            known = ", ".join(map(str, CONFIGURED))
            raise SpecError(f"DeepEP's normal mode is configured for {known} ranks, not for {ep}", "all_to_all", "ep")
