"""What one rank works on at a time: sequences, their lengths, how they are laid out, and what is kept of a pass over them."""

from typing import Annotated

from pydantic import Field

from memcalc.caches import cached_property
from memcalc.formulas.objectives import OBJECTIVES as ROWS
from memcalc.formulas.objectives import REFERENCES, REFERRED, Objective
from memcalc.specs.spec import BATCH, Flag, OneOf, SpecError, SpecPart, rule, setting, within

OBJECTIVES = {row.name: row.note for row in ROWS.values()}
NEXT_TOKEN = Objective("sft", "the next token's cross-entropy")
MAX_BATCH, MAX_LENGTH = 2**24, 2**31
MAX_TOKENS = 2**40  # of a micro-batch
ACCUMULATION = {"fp32": "4 bytes a gradient", "bf16": "2 bytes", "fp16": "2 bytes"}
ACCUMULATING = "deepspeed"  # the engine of which that is a setting (data_types.grad_accum_dtype); Megatron's: main_grads_dtype
OF_OBJECTIVES = ("objective", "reference", "labels", "passages", "passage_len", "cached_batch")


class Batches(SpecPart):
    """Sequences on one GPU: micro_batch of seq_len tokens, or one row of tokens_per_batch in which they follow each other."""

    micro_batch: Annotated[int, within(1, MAX_BATCH)] = setting(
        1, "Sequences per GPU at a time (per-device batch size).", BATCH, kind="largest"
    )
    grad_accum: Annotated[int, within(1, 2**24)] = setting(
        1, "Micro-batches per optimizer step (gradient accumulation).", BATCH
    )
    global_batch: Annotated[int, within(1, 2**40)] | None = setting(
        None, "Sequences per optimizer step over all GPUs; says grad-accum.", BATCH, otherwise="what the others come to"
    )
    seq_len: Annotated[int, within(1, MAX_LENGTH)] = setting(
        4096, "Tokens per sequence.", BATCH, kind="largest", otherwise="4096, or the model's context"
    )
    seq_len_max: Annotated[int, within(1, MAX_LENGTH)] | None = setting(
        None, "Where lengths vary: the longest, to which its batch is padded; seq-len is the usual one.", BATCH,
        otherwise="all alike",
    )  # fmt: skip
    tokens_per_batch: Annotated[int, within(1, MAX_LENGTH)] | None = setting(
        None, "Packed or padding-free: one row of so many tokens, in which sequences follow each other.", BATCH,
        otherwise="micro-batch × seq-len",
    )  # fmt: skip
    grad_accum_dtype: Annotated[str, OneOf(tuple(ACCUMULATION))] | None = setting(
        None, "What gradients are accumulated in (DeepSpeed).", BATCH, otherwise="the engine's", choices=ACCUMULATION
    )
    tiled_mlp: Flag = setting(False, "Feed-forwards run over tiles of the tokens, and again in the backward (ALST).", BATCH)
    mlp_tiles: Annotated[int, within(1, 65536)] | None = setting(
        None, "How many tiles.", BATCH, otherwise="tokens of a sequence over the model's width"
    )
    keep_output: Flag = setting(
        False, "The training loop holds the model's output (logits, cache) until the backward is over.", BATCH
    )
    use_cache: Flag = setting(False, "The forward fills a cache of keys and values, as when it generates.", BATCH)
    eval_batch: Annotated[int, within(1, MAX_BATCH)] | None = setting(
        None, "Evaluate between steps, so many sequences per GPU at a time, keeping their logits.", BATCH,
        otherwise="no evaluation",
    )  # fmt: skip
    eval_accumulation: Annotated[int, within(1, 2**24)] = setting(
        1, "Evaluation passes whose logits of all ranks stay on the GPU (eval_accumulation_steps).", BATCH
    )

    objective: Annotated[str, OneOf(tuple(OBJECTIVES))] | None = setting(
        None, "What the model is trained for, where it is not the next token.", BATCH, otherwise="as its class says",
        choices=OBJECTIVES,
    )  # fmt: skip
    reference: Annotated[str, OneOf(tuple(REFERENCES))] | None = setting(
        None, "Where the reference's log-probabilities come from (dpo, kto).", BATCH,
        otherwise="same beside adapters, else frozen", choices=REFERENCES,
    )  # fmt: skip
    labels: Annotated[int, within(1, 2**24)] = setting(2, "Labels of classify and token-classify.", BATCH)
    passages: Annotated[int, within(1, 4096)] = setting(1, "Passages of each query, the positive one too (embed).", BATCH)
    passage_len: Annotated[int, within(1, MAX_LENGTH)] | None = setting(
        None, "Tokens of a passage; seq-len are those of a query (embed).", BATCH, otherwise="as seq-len"
    )
    cached_batch: Annotated[int, within(1, MAX_BATCH)] | None = setting(
        None, "Sequences that are encoded at a time where gradients are cached (GradCache; embed).", BATCH,
        otherwise="all at once",
    )  # fmt: skip
    images: Annotated[int, within(0, 2**20)] | None = setting(
        None, "Images in each sequence, or packed row; their tokens are part of it.", BATCH, otherwise="none"
    )
    image_size: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}x[1-9][0-9]{0,5}$")] | None = setting(
        None, "Pixels of an image before the model's processor resizes it.", BATCH, metavar="WIDTHxHEIGHT",
        otherwise="the model's own, where it has one",
    )  # fmt: skip
    image_tokens: Annotated[int, within(1, 2**24)] | None = setting(
        None, "Tokens that the language model reads of an image.", BATCH, otherwise="by the family's rule"
    )

    @rule("micro_batch", "seq_len", "seq_len_max", "tokens_per_batch", *OF_OBJECTIVES)
    def _check_size(self) -> None:
        if self.tokens > MAX_TOKENS:
            raise SpecError(
                f"{self.rows:,} × {self.row_length:,} tokens at once is beyond any GPU",
                *(("tokens_per_batch",) if self.tokens_per_batch else ("micro_batch", "seq_len")),
            )

    @rule("seq_len_max")
    def _check_longest(self) -> None:
        if self.seq_len_max is not None and self.seq_len_max < self.seq_len:
            raise SpecError(f"{self.seq_len_max:,}, but the usual length is {self.seq_len:,} tokens", "seq_len_max", "seq_len")

    @rule("tokens_per_batch")
    def _check_packed(self) -> None:
        if self.tokens_per_batch is None:
            return
        if self.tokens_per_batch < self.seq_len:
            raise SpecError(
                f"a row of {self.tokens_per_batch:,} tokens holds no sequence of {self.seq_len:,}",
                "tokens_per_batch",
                "seq_len",
            )
        for name in ("micro_batch", "seq_len_max", "global_batch"):
            if name in self.model_fields_set and getattr(self, name) is not None:
                raise SpecError(
                    "a packed row is as long whatever its sequences, however many they are; choose one",
                    "tokens_per_batch",
                    name,
                )

    @rule(*OF_OBJECTIVES)
    def _check_objective(self) -> None:
        for name, needed in (("labels", ("classify", "token-classify")), ("passages", ("embed",)), ("passage_len", ("embed",)),
                             ("cached_batch", ("embed",))):  # fmt: skip
            default = type(self).model_fields[name].default
            if getattr(self, name) != default and self.objective not in needed:
                raise SpecError(f"add objective {' or '.join(needed)}", name, "objective")
        if self.reference not in (None, "none") and self.objective not in REFERRED:
            raise SpecError(f"add objective {' or '.join(REFERRED)}, which alone have one", "reference", "objective")
        if self.reference == "none" and self.objective in REFERRED:
            raise SpecError(f"{self.objective} has one; orpo and simpo go without", "reference", "objective")
        if self.objective == "embed" and self.tokens_per_batch:
            raise SpecError("queries and passages are not modelled packed", "objective", "tokens_per_batch")

    @rule("image_size", "image_tokens")
    def _check_images(self) -> None:
        for name in ("image_size", "image_tokens"):
            if getattr(self, name) is not None and not self.images:
                raise SpecError("is of images; add images N", name, "images")
        if self.image_size and self.image_tokens:
            raise SpecError("tokens follow from the size; choose one", "image_size", "image_tokens")

    @rule("mlp_tiles")
    def _check_tiles(self) -> None:
        if self.mlp_tiles is not None and not self.tiled_mlp:
            raise SpecError("says how many tiles; add tiled_mlp", "mlp_tiles", "tiled_mlp")

    @rule("eval_accumulation")
    def _check_evaluation(self) -> None:
        if self.eval_accumulation > 1 and self.eval_batch is None:
            raise SpecError("is of an evaluation; add eval_batch", "eval_accumulation", "eval_batch")

    @property
    def objective_row(self) -> Objective:
        """Facts of the objective; of none those of the next token."""
        return ROWS[self.objective] if self.objective else NEXT_TOKEN

    @property
    def image_sides(self) -> tuple[int, int]:
        """Width and height of an image, 0 where nobody said it."""
        width, _, height = (self.image_size or "0x0").partition("x")
        return int(width), int(height)

    @cached_property
    def rows(self) -> int:
        """Rows of a micro-batch on one GPU: of a pair, or of a query and its passages, each is one."""
        if self.objective == "embed":
            return self.cached_batch or self.micro_batch * (1 + self.passages)
        return 1 if self.tokens_per_batch else self.micro_batch * self.objective_row.sequences

    @cached_property
    def sequences(self) -> int:
        """That a micro-batch holds, queries and passages alike."""
        return self.micro_batch * (1 + self.passages) if self.objective == "embed" else self.rows

    @cached_property
    def row_length(self) -> int:
        """Tokens of a row at its longest, which memory must hold."""
        longest = self.tokens_per_batch or self.seq_len_max or self.seq_len
        return max(longest, self.passage_len or 0)

    @cached_property
    def tokens(self) -> int:
        """Of a micro-batch at its largest."""
        return self._over_rows(1)

    @cached_property
    def pairs(self) -> int:
        """Pairs of tokens that may see each other."""
        return self._over_rows(2)

    def _over_rows(self, power: int) -> int:
        if self.objective != "embed" or self.cached_batch:
            return int(self.rows * self.row_length**power)
        query = self.seq_len_max or self.seq_len
        return int(self.micro_batch * (query**power + self.passages * (self.passage_len or query) ** power))
