"""One way of serving a model: engine, weight and cache formats, requests, parallelism."""

from typing import Annotated, Any

from pydantic import field_validator, model_validator

from memcalc.caches import cached_property
from memcalc.errors import InputError
from memcalc.formulas.allocatable import total_bytes
from memcalc.formulas.drafts import METHODS
from memcalc.formulas.serving_engines import (
    PLAIN,
    RELEASES,
    SERVING_ENGINES,
    SYNCHRONOUS,
    ServingEngine,
    defaults,
    release,
)
from memcalc.formulas.sglang import NO_FACTS, ShareFacts, StaticReserve, prefill_graphs_mib, static_share
from memcalc.specs.engine_options import BLOCKS, ENGINE_OPTIONS
from memcalc.specs.serving_layout import ServingLayout
from memcalc.specs.serving_load import ServingLoad
from memcalc.specs.spec import (
    ENGINE_LIMITS,
    EXPERTS,
    HARDWARE,
    REQUESTS,
    SHARDING,
    STATES,
    Flag,
    OneOf,
    Spec,
    SpecError,
    rule,
    setting,
    within,
)

MAX_LENGTH, MAX_BATCH = 2**31, 2**24
Tokens = Annotated[int, within(1, MAX_LENGTH)]
Degree = Annotated[int, within(1, 65536)]
PLAIN_FORMATS = ("fp32", "fp16", "bf16")


class Serving(ServingLayout, Spec):
    """How a model is served: `batch` requests, each of which may reach `context` tokens (prompt and answer together)."""

    engine: Annotated[str, OneOf(tuple(SERVING_ENGINES))] | None = setting(
        None, "Whose accounting to follow, as in `memcalc engines`.", ENGINE_LIMITS, metavar="NAME",
        otherwise="none: what the tensors take, without an engine's reserve",
        choices={row.name: row.note for row in SERVING_ENGINES.values()},
    )  # fmt: skip
    engine_version: str | None = setting(
        None, "Its release, where accounting differs: 0.19; also --engine vllm@0.19.", ENGINE_LIMITS, otherwise="the newest"
    )
    weights: str = setting(
        "bf16",
        "How weights are stored: a number format, a scheme (w8a8), a GGUF type (Q4_K_M).",
        STATES,
        metavar="FORMAT",
        otherwise="as the checkpoint, or bf16",
    )
    kv_dtype: str = setting(
        "bf16", "Number format of the cache.", STATES, metavar="FORMAT", otherwise="as the checkpoint says, or bf16"
    )
    context: Tokens = setting(
        4096,
        "Tokens a sequence may reach, prompt and answer.",
        REQUESTS,
        kind="largest",
        otherwise="the engine's, or 4096 within the model's",
    )
    max_new_tokens: Tokens | None = setting(
        None, "Of the context, the tokens of the answer.", REQUESTS, otherwise="none set apart"
    )
    batch: Annotated[int, within(1, MAX_BATCH)] = setting(1, "Requests at once.", REQUESTS, kind="largest")
    samples: Annotated[int, within(1, 65536)] = setting(1, "Answers to each prompt.", REQUESTS)
    beams: Annotated[int, within(1, 65536)] = setting(1, "Beam search: candidates of each answer.", REQUESTS)
    shared_prefix: Annotated[int, within(0, 2**31)] = setting(0, "Tokens with which all prompts begin, cached once.", REQUESTS)
    tp: Degree = setting(1, "Tensor parallel degree: GPUs that share each matrix.", SHARDING)
    pp: Degree = setting(1, "Pipeline parallel degree: GPUs that share the layers; --tp × --pp is a replica.", SHARDING)
    ep: Degree = setting(1, "Expert parallel degree: GPUs that share the experts of a layer.", EXPERTS)
    dp: Degree = setting(1, "Replicas, each with --batch requests of its own.", SHARDING)
    gpu_memory_utilization: Annotated[float, within(0.01, 1.0)] | None = setting(
        None, "Share of the GPU that the engine may take.", ENGINE_LIMITS, kind="share", otherwise="the engine's"
    )
    kv_cache_memory: Annotated[int, within(2**20, 10**15)] | None = setting(
        None,
        "Memory of the cache on each GPU, in place of that share: 58.11GiB.",
        ENGINE_LIMITS,
        kind="bytes",
        otherwise="what that share leaves",
    )
    max_batched_tokens: Tokens | None = setting(None, "Tokens in one forward pass.", ENGINE_LIMITS, otherwise="the engine's")
    max_sequences: Annotated[int, within(1, 2**24)] | None = setting(
        None, "Sequences in one step.", ENGINE_LIMITS, otherwise="the engine's"
    )
    block_size: Annotated[int, within(1, 65536)] | None = setting(
        None, "Tokens in a block of the cache.", ENGINE_LIMITS, otherwise="the engine's"
    )
    eager: Flag = setting(False, "Without CUDA graphs, and the memory that they take.", ENGINE_LIMITS)
    lora_adapters: Annotated[int, within(0, 65536)] = setting(0, "LoRA adapters served beside the model: --max-loras.", STATES)
    lora_rank: Annotated[int, within(1, 65536)] = setting(16, "Rank of those adapters: --max-lora-rank.", STATES)
    gpu_experts: Annotated[int, within(0, 100_000)] = setting(
        0, "KTransformers: experts of each layer on the GPUs, the others in host memory.", ENGINE_LIMITS
    )
    host_experts: str | None = setting(
        None, "KTransformers: how the experts in host memory are stored (--kt-method): int4-channel.", STATES, metavar="FORMAT",
        otherwise="--weights",
    )  # fmt: skip
    draft_tokens: Annotated[int, within(1, 1024)] | None = setting(
        None, "Tokens that a draft guesses in a step.", STATES, otherwise="4 with --draft; Medusa 5, DFlash 15"
    )
    draft_method: Annotated[str, OneOf(tuple(METHODS))] | None = setting(
        None, "How a draft guesses, where its config does not say so.", STATES, metavar="METHOD",
        otherwise="as --draft says, or a model of its own", choices={row.name: row.note for row in METHODS.values()},
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _versioned(cls, values: Any) -> Any:
        """engine vllm@0.19 is that engine with that version."""
        word = values.get("engine") if isinstance(values, dict) else None
        if not isinstance(word, str) or "@" not in word:
            return values
        engine, _, version = word.partition("@")
        said = values.get("engine_version")
        if said not in (None, version):
            raise SpecError(f"says {said!r:.40} beside {word!r:.40}; give one", "engine_version")
        return {**values, "engine": engine, "engine_version": version}

    @field_validator("weights", "kv_dtype", mode="before")
    @classmethod
    def _plain(cls, word: object) -> object:
        """FP32, float32 and torch.float32 are fp32, of which more is known than of a word."""
        from memcalc.dtypes import known_format

        try:
            row = known_format(word) if isinstance(word, str) else None
        except InputError:
            return word
        return row.name if row and row.name in PLAIN_FORMATS else word

    @rule()
    def _check(self) -> None:
        from memcalc.dtypes import number_format
        from memcalc.specs.quantization import check_weights

        for name, check in (("weights", check_weights), ("kv_dtype", number_format), ("host_experts", check_weights)):
            try:
                check(getattr(self, name) or "bf16")
            except InputError as error:
                raise SpecError(str(error), name) from None
        if max(self.ep, self.tp) % min(self.ep, self.tp):
            raise SpecError(
                f"of expert parallelism {self.ep} and tensor parallelism {self.tp} one must be a multiple of the other",
                "ep", "tp",
            )  # fmt: skip
        self._check_tokens()
        self._check_version()
        self._check_engine()

    def _check_tokens(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens >= self.context:
            raise SpecError(
                f"{self.max_new_tokens} new tokens leave no prompt in a context of {self.context}", "max_new_tokens", "context"
            )
        if self.shared_prefix and self.shared_prefix >= self.prompt:
            raise SpecError(
                f"a common prefix of {self.shared_prefix} tokens must be shorter than the prompt of {self.prompt}",
                "shared_prefix",
            )
        if self.copies > 1 and self.max_new_tokens is None:
            raise SpecError("several answers to a prompt need the number of new tokens", "max_new_tokens")

    def _check_engine(self) -> None:
        said = self.__dict__
        for name, default, what, has in ENGINE_OPTIONS:
            if said[name] != default and not has(self.engine_row):
                able = " or ".join(row.name for row in SERVING_ENGINES.values() if has(row))
                raise SpecError(f"needs an engine that {what}: {able}", name)
        if self.engine_row.host_embedding and max(self.tp, self.ep) > 1:
            raise SpecError(f"{self.engine} puts whole layers on several GPUs: give --pp", "tp", "ep")
        row, method = self.engine_row, self.draft_method
        self._check_cache(row)
        if method and row.name and method not in row.drafts:
            able = ", ".join(one.key for one in RELEASES.values() if method in one.drafts)
            raise SpecError(f"{row.note} guesses with {', '.join(row.drafts)}; {method} is of {able}", "draft_method")
        if self.all_to_all and self.all_to_all not in row.exchanges:
            raise SpecError(f"{row.name} has {', '.join(row.exchanges)}, not {self.all_to_all}", "all_to_all")
        self.check_offloading(self.pp)
        self.check_layout(self.tp, self.pp, self.ep, self.shared_prefix)
        if self.engine_row.experts_on_host and (self.pp > 1 or self.ep > 1):
            raise SpecError(f"how {self.engine} divides experts in host memory over stages is not known; give tp", "pp", "ep")
        if self.block_size and (wants := BLOCKS.get(self.engine or "")) and (why := wants(self.block_size)):
            raise SpecError(f"{self.engine} takes {why}, not {self.block_size}", "block_size")
        if self.slots is not None and self.batch * self.copies > 1:
            raise SpecError("slots share the context, requests of a batch have one each; give one of the two", "slots", "batch")

    def _check_cache(self, row: ServingEngine) -> None:
        from memcalc.dtypes import number_format

        name = number_format(self.kv_dtype).name
        if row.caches and name not in (*PLAIN_FORMATS, *row.caches):
            takes = ", ".join((*PLAIN_FORMATS, *row.caches))
            raise SpecError(f"{row.note} keeps its cache in {takes}, not in {name}", "kv_dtype")

    def _check_version(self) -> None:
        if self.engine_version is None:
            return
        if self.engine is None:
            raise SpecError("is that of an engine; name one", "engine_version")
        if release(self.engine, self.engine_version) is None:
            known = [row.since for row in RELEASES.values() if row.name == self.engine]
            raise SpecError(f"{self.engine} {self.engine_version!r:.40} is not described: {known[-1]} and later are, "
                            f"with changes from {', '.join(reversed(known))}", "engine_version")  # fmt: skip

    @cached_property
    def engine_row(self) -> ServingEngine:
        row = release(self.engine, self.engine_version) if self.engine else PLAIN
        return row or PLAIN

    @property
    def key_format(self) -> str:
        """The number format of the cache's keys."""
        return self.cache_type_k or self.kv_dtype

    @property
    def value_format(self) -> str:
        """That of its values."""
        return self.cache_type_v or self.kv_dtype

    @property
    def gpus(self) -> int:
        return self.ranks * self.dp

    @property
    def ranks(self) -> int:
        """GPUs of one replica."""
        return max(self.tp, self.ep) * self.pp

    @property
    def attention_tp(self) -> int:
        """Ranks that share attention."""
        return self.tp // self.attention_dp

    @property
    def shared(self) -> int:
        """Tokens of each prompt that the cache holds once."""
        return self.shared_prefix or min(int(self.prefix_hit_rate * self.prompt), self.prompt - 1)

    @property
    def kept_context(self) -> int:
        """Tokens of a sequence that this server keeps: of prompts alone where another answers."""
        return self.prompt if self.role == "prefill" else self.context

    @property
    def copies(self) -> int:
        """Sequences that one prompt becomes."""
        return self.samples * self.beams

    @property
    def prompt(self) -> int:
        """Tokens of a prompt; the whole context unless new tokens are set apart."""
        return self.context - (self.max_new_tokens or 0)

    @property
    def compute_format(self) -> str:
        """Of activations: the weights' where those are plain, else bf16."""
        return self.weights if self.weights in PLAIN_FORMATS else "bf16"

    def batched_tokens(self, memory: int) -> int:
        """Tokens of one forward pass on a GPU of `memory` bytes (0: a large one)."""
        row = self.engine_row
        if row.whole_prompt:
            return self.batch * self.copies * self.prompt
        return self.max_batched_tokens or defaults(row, memory).batched_tokens

    def in_flight_tokens(self, memory: int) -> int:
        """Tokens of all passes that may be on their way: a pipeline's stages, or one that is scheduled ahead."""
        row = self.engine_row
        ahead = self.draft_tokens and (self.draft_method or "model") in SYNCHRONOUS
        passes = 1 if row.passes_in_flight == 1 else max(self.pp, 1 if ahead else row.passes_in_flight)
        return passes * self.batched_tokens(memory)

    def step_sequences(self, memory: int) -> int:
        """Sequences whose logits one step holds."""
        return self.max_sequences or self._default_sequences(memory) or self.batch * self.copies

    def scheduled(self, memory: int) -> int | None:
        """Sequences that run at once at most; None: as many as there is memory for."""
        row = self.engine_row
        return self.step_sequences(memory) if row.sequences and (row.schedules or self.max_sequences) else None

    def largest_graph(self, memory: int) -> int:
        """The largest batch that SGLang captures a decode graph for; 0 without graphs."""
        most = self.max_graph_batch or self._default_sequences(memory) or 0
        return 0 if self.eager or self.role == "prefill" else min(most, self.max_sequences or most)

    def prefill_graphs(self, memory: int, facts: ShareFacts = NO_FACTS) -> int:
        """MiB that SGLang sets apart for graphs of prefill passes; 0 where it captures none."""
        kind = self.engine_row.prefill_graphs
        plain = not (self.draft_tokens or self.pp > 1 or self.lora_adapters or self.role or self.attention_dp > 1)
        if self.eager or self._sees(facts) or self.role == "decode" or not (kind == "segments" or (kind and plain)):
            return 0
        return prefill_graphs_mib(self.batched_tokens(memory), facts.latent)

    def utilization(self, memory: int, facts: ShareFacts = NO_FACTS) -> float:
        """The share of a GPU of `memory` bytes that the engine may take."""
        if self.gpu_memory_utilization is not None:
            return self.gpu_memory_utilization
        row = self.engine_row
        if row.utilization is not None:
            return row.utilization
        tokens = self.batched_tokens(memory)
        if self.role == "decode":
            tokens = self.step_sequences(memory) * (self.draft_tokens or 1)
        need = StaticReserve(
            tokens, self.largest_graph(memory), self.ranks, self.prefill_graphs(memory, facts),
            attention_dp=self.attention_dp, draft=self._draft_reserve(row),
        )  # fmt: skip
        return static_share(need, total_bytes(memory, facts.generation), facts.tower if self._sees(facts) else None)

    def _sees(self, facts: ShareFacts) -> bool:
        """Whether room is left for images: a server of answers alone encodes none."""
        return bool(facts.tower) and not self.language_model_only and self.role != "decode"

    def _draft_reserve(self, row: ServingEngine) -> int:
        """MiB that SGLang's share leaves for a draft."""
        method = METHODS[self.draft_method or "model"]
        return row.draft_reserve[0 if method.head else 1] if self.draft_tokens and method.weights else 0

    def _default_sequences(self, memory: int) -> int | None:
        found = defaults(self.engine_row, memory)
        return found.sequences_split if found.sequences_split and self.tp >= 4 else found.sequences


class ServingQuestion(ServingLoad):
    """What is asked beside a way of serving: a draft model, one format for all, shares of the peaks that are reached."""

    precision: Annotated[str, OneOf(PLAIN_FORMATS)] | None = setting(
        None, "One format for weights and cache.", STATES, otherwise="--weights and --kv-dtype"
    )
    draft: str | None = setting(
        None, "What guesses tokens: a model, a head's config.json, or mtp, eagle, eagle3, dflash, medusa, ngram, suffix.",
        STATES, metavar="MODEL", otherwise="none",
    )  # fmt: skip
    ram: Annotated[int, within(2**20, 10**15)] | None = setting(
        None, "Host memory, for a verdict of its own on what stands there: 64GiB.", HARDWARE, kind="bytes",
        otherwise="none: nothing is judged",
    )  # fmt: skip
    mfu: Annotated[float, within(0.001, 1.0)] | None = setting(
        None, "Share of the peak FLOP/s that prefill reaches.", HARDWARE, kind="share", otherwise="a published one"
    )
    mbu: Annotated[float, within(0.001, 1.0)] | None = setting(
        None, "Share of the memory bandwidth that decode reaches.", HARDWARE, kind="share", otherwise="a published one"
    )
    link_efficiency: Annotated[float, within(0.001, 1.0)] | None = setting(
        None, "Share of the link's bandwidth that messages reach.", HARDWARE, kind="share", otherwise="a published one"
    )
