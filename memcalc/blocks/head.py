"""The output head: a matrix product over the vocabulary, its weight its own or shared with the embedding."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import LOSSES, OF_TOKENS, Loss, Profile
from memcalc.autograd.tape import FP32, HALF, INT64, ZERO, MatrixShape, Size, Step, Tape, Var, sum_of
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight, linear, whole
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Head(Block, without=("constants", "cache", "state", "traits")):
    """Language-model head [vocabulary, size]. Tied: no weight of its own, the product is still computed."""

    scores = True

    vocabulary: int
    size: int
    tied: bool = False
    bias: bool = False
    softcap: float | None = None  # Gemma 2: final logits through tanh
    softcap_wide: bool = False  # which is applied in fp32 (Beam)
    upcast: bool = True  # cross-entropy takes the logits in fp32; else as they are (masked and sequence-to-sequence models)
    input_scaled: bool = False  # T5 multiplies the hidden states by a constant
    scaled: bool = False  # Cohere, Granite multiply the logits by a constant
    by_token: bool = False  # in fp32, by a learned number of each token (Dory)
    predictions: int = 0  # further tokens that are predicted, each with a loss of its own

    def weights(self) -> tuple[Weight, ...]:
        each = whole(0, self.vocabulary)
        scale = (Weight("logit_scale", "head", (self.vocabulary,), each),) if self.by_token else ()
        if not self.tied:
            return linear("weight", "head", self.size, self.vocabulary, bias=self.bias, cut="outputs") + scale
        return ((Weight("bias", "head", (self.vocabulary,), each),) if self.bias else ()) + scale

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Logits, [tokens, vocabulary], in the compute type."""
        width = -(-self.vocabulary // p.degrees.tp)
        x = ops.scale(t, x) if self.input_scaled else x
        x = ops.cast(t, x, p.formats.compute) if p.formats.wide_stream and not p.formats.autocast else x
        matrix = Matrix("logits", width, self.size * width, bias=self.bias * width, trained=self._trained(p), buffered=True)
        logits = ops.linear(t, p, ops.gathered(t, p, x), matrix)
        if self.scaled:
            logits = ops.scale(t, logits)
        if self.by_token:
            logits = ops.scale_by_norm(t, p, ops.cast(t, logits, FP32), width, FP32)
        if self.softcap:
            logits = ops.scale(t, ops.cast(t, logits, FP32) if self.softcap_wide else logits)
            logits = t.emit("softcap", [logits], logits.elements, logits.each)
            if logits.grad:
                t.nodes[-1].saves = (logits,)
            logits = ops.scale(t, logits)
        return logits

    def _trained(self, p: Profile) -> bool:
        """Whether the matrix needs a gradient: a tied one is frozen with the embedding."""
        return p.method.trains("head") and not (self.tied and p.method.frozen_embeddings)

    def loss(self, t: Tape, p: Profile, x: Var) -> Size:
        """Cross-entropy over x's logits; records logits and loss, and returns what the forward holds beside the saved tensors.

        full: logits to fp32, log-softmax kept (transformers/loss/loss_utils.py ForCausalLMLoss), or DTensor's loss_parallel on
        tensor-parallel ranks. chunked: CHUNKS pieces, each recomputed in the backward (torchtune CEWithChunkedOutputLoss
        keeps the 16-bit logits of all). fused: logits exist one chunk at a time, gradients are made in the forward
        (Liger fused_linear_cross_entropy). The other rows of LOSSES are those of older libraries.
        """
        if p.loss == "fused":
            return self._fused_loss(t, p, x)
        if p.loss == "chunked-nll":
            return self._loss_by_chunks(t, p, x)
        if LOSSES[p.loss].head_tokens:
            return self._loss_by_tiles(t, p, x, LOSSES[p.loss].head_words)
        logits = self.forward(t, p, x)
        t.path = "loss"
        if p.degrees.whole_logits:
            size = logits.elements * p.degrees.tp
            logits = t.emit("logits, gathered", [logits], size, logits.each, (), [Step("input", logits.bytes)])
        t.result = logits
        if p.loss in OF_TOKENS:
            return _log_probabilities(t, p, logits)
        if p.loss == "chunked":
            return self._chunked_loss(t, p, logits)
        if p.loss == "compiled":
            return _loss_node(t, logits, Size(), [Step("input", logits.bytes)])
        row = LOSSES[p.loss]
        if p.loss not in ("full", "upcast"):
            beside = logits.bytes + logits.elements * FP32 if p.preference.reference else Size()
            return _older_loss(t, logits, row) + beside
        wide = ops.cast(t, logits, FP32 if self.upcast or p.formats.autocast or p.degrees.splits_logits else logits.each)
        held = wide.bytes if wide is not logits else Size()
        if row.half_kept:
            held = held + logits.bytes
        else:
            t.result = wide
        if p.degrees.splits_logits:
            return _loss_parallel(t, wide, held)
        log_softmax = t.emit("log-softmax", [wide], wide.elements, wide.each)
        if log_softmax.grad:
            t.nodes[-1].saves = (log_softmax,)
        return _loss_node(t, log_softmax, held, [Step("input", log_softmax.bytes)])

    def _chunked_loss(self, t: Tape, p: Profile, logits: Var) -> Size:
        """The 16-bit logits are kept; fp32 copy, log-softmax and gradients exist for one chunk at a time, for the head is
        applied chunk by chunk as well (torchtune TransformerDecoder.chunked_output). Compiled, a chunk's loss reads its logits
        and writes their gradient, and nothing lies between (torchtune/training/_compile.py, compile_loss)."""
        logits = _summed_by_chunks(t, logits)
        if p.kernels.fused_chains:
            return _loss_node(t, logits, Size(), [Step("input", logits.bytes * (1 / CHUNKS))])
        chunk = logits.elements * (FP32 / CHUNKS)
        steps = [Step("temp", chunk), Step("temp", chunk), Step("temp", chunk), Step("input", logits.bytes * (1 / CHUNKS))]
        return _loss_node(t, logits, chunk + chunk, steps)

    def _loss_by_tiles(self, t: Tape, p: Profile, x: Var, words: int) -> Size:
        """Logits of so many tokens and words at a time, in fp32, made again in the backward: kept are the hidden states. Both
        gradients are summed tile by tile (verl/utils/experimental/torch_functional.py, FusedLinearForPPOFunction; prime-rl's
        trainer/models/layers/lm_head.py, _SequenceChunkedLogProbEntropyFn)."""
        width, trained = -(-self.vocabulary // p.degrees.tp), self._trained(p)
        words, weight = min(words or width, width), self.size * width
        t.multiply("logits", Size(token=2 * weight), 1 + x.grad + trained,
                   shape=MatrixShape(1.0, width, self.size, 1, x.grad, trained))  # fmt: skip
        used = ops.cast(t, x, p.formats.compute)
        tile = p.batch.head_tokens * words * FP32
        # logits, probabilities, labels as vectors, their difference, the gradient; then three of them, the 16-bit gradient
        # and the tile's part of the weight's gradient
        product = words * self.size * p.formats.compute if trained else 0
        beside = max(5 * tile, 3 * tile + p.batch.head_tokens * words * p.formats.compute + product)
        steps = [Step("input", used.bytes)]
        if trained:
            steps.append(Step("weight", Size(fixed=weight * p.formats.weights)))
        steps.append(Step("temp", Size(fixed=beside)))
        labels = Var(Size(token=1), INT64, False, f"{t.path}/labels")
        t.emit("loss", [used], Size(fixed=1), FP32, [used, labels], steps, trained=trained)
        return Size(fixed=4 * tile)

    def _loss_by_chunks(self, t: Tape, p: Profile, x: Var) -> Size:
        """Each chunk is a checkpoint that upcasts hidden states and weight (trl/trainer/sft_trainer.py, _chunk): logits,
        log-softmax and, for the entropy, its exponential and their product; the weight's gradient is fp32 before it is cast.
        """
        width, trained = -(-self.vocabulary // p.degrees.tp), self._trained(p)
        weight, tokens = self.size * width, p.batch.head_tokens
        t.multiply("logits", Size(token=2 * weight), 1 + x.grad + trained,
                   shape=MatrixShape(1.0, width, self.size, 1, x.grad, trained))  # fmt: skip
        words, narrow = tokens * width, HALF if p.formats.autocast else FP32
        wide = weight * FP32 if p.formats.weights < FP32 else 0
        cast = weight * HALF if p.formats.autocast else 0
        kept = cast or wide  # of the weight, for the hidden states' gradient
        entropy = words * (narrow + 3 * FP32)
        # beside the sum of earlier chunks' gradients: what is upcast and its gradient, or a new gradient and a new sum
        product = (2 * weight * FP32 + (words * narrow if wide else 0)) if trained else 0
        forward = max(wide + cast + words * narrow + tokens * self.size * FP32, entropy)
        steps = [Step("input", x.bytes)]
        if trained:
            steps.append(Step("weight", Size(fixed=weight * p.formats.weights)))
        steps.append(Step("temp", Size(fixed=max(kept + entropy, forward, product))))
        labels = Var(Size(token=1), INT64, False, f"{t.path}/labels")
        t.emit("loss", [x], Size(fixed=1), FP32, [x, labels], steps, trained=trained)
        return Size(fixed=forward)

    def _fused_loss(self, t: Tape, p: Profile, x: Var) -> Size:
        """Kept are the gradients of x and of the weight, made in the forward; one chunk of logits is alive at a time."""
        width = -(-self.vocabulary // p.degrees.tp)
        trained = self._trained(p)
        t.multiply("logits", Size(token=2 * self.size * width), x.grad + trained,
                   shape=MatrixShape(1.0, width, self.size, 1, x.grad, trained))  # fmt: skip
        # Liger cuts the tokens so that a chunk of logits is as large as the hidden states (inc_factor = ceil(V / H))
        chunk = x.elements * p.formats.compute + x.elements * FP32
        kept = [Var(x.elements, p.formats.compute, False, "gradient of the hidden states")]
        if trained:
            kept.append(Var(Size(fixed=self.size * width), p.formats.compute, False, "gradient of the head"))
        steps = [Step("input", x.bytes)]
        if trained:
            steps.append(Step("weight", Size(fixed=self.size * width * p.formats.weights)))
        t.emit("loss", [x], Size(fixed=1), FP32, kept, steps, trained=trained)
        return chunk


def _loss_parallel(t: Tape, wide: Var, held: Size) -> Size:
    """Cross-entropy over a rank's share of the vocabulary, written out in elementary operations: logits, shifted logits and
    log-softmax at once; the backward of both parts is one, of three temporaries beside the log-softmax
    (torch/distributed/tensor/parallel/loss.py, _log_softmax and _nll_loss_and_log_softmax_backward)."""
    log_softmax = t.emit("log-softmax", [wide], wide.elements, wide.each, [], [Step("share")])
    if log_softmax.grad:
        t.nodes[-1].saves = (log_softmax,)
    temporary = Step("temp", log_softmax.bytes)
    return _loss_node(t, log_softmax, held + wide.bytes, [temporary, temporary, Step("input", log_softmax.bytes)])


def _older_loss(t: Tape, logits: Var, row: Loss) -> Size:
    """Cross-entropy as older libraries write it: which copies of the logits there are is the row's."""
    x = ops.cast(t, logits, FP32) if row.upcast else logits
    t.result = x if row.log_softmax and not row.half_kept else t.result if row.log_softmax else None  # Unsloth returns none
    held = x.bytes + (logits.bytes if row.half_kept and x is not logits else Size())
    kept = [x] if row.output_kept else []
    if row.shifted:
        x = t.emit("shifted", [x], x.elements, x.each)
        held = held + x.bytes
    if not row.log_softmax:  # the gradient is written over the logits that it is the gradient of
        return _loss_node(t, x, held - x.bytes, [Step("over", x.bytes)])
    log_softmax = t.emit("log-softmax", [x], x.elements, x.each, [], [Step("input", x.bytes * _share(row))])
    if log_softmax.grad:
        t.nodes[-1].saves = (log_softmax, *kept)
    held = held - kept[0].bytes if kept else held
    return _loss_node(t, log_softmax, held, [Step("input", log_softmax.bytes * _share(row))])


def _summed_by_chunks(t: Tape, logits: Var) -> Var:
    """A matrix that is applied to one chunk after the other: while the second one's gradient of it is made, the first one's is
    there, and the logits of all chunks that wait (torch/csrc/autograd/input_buffer.cpp adds in place)."""
    gradient = sum_of(step.bytes for node in t.nodes if node.out is logits for step in node.steps if step.kind == "weight")
    if gradient == ZERO:
        return logits
    made = Step("temp", gradient * 2 - logits.bytes * (2 / CHUNKS))
    chunks = t.emit("chunk by chunk", [logits], logits.elements, logits.each, [logits], [made, Step("share")])
    chunks.whole = logits
    return chunks


def _share(row: Loss) -> float:
    """The share of the logits whose gradient exists at once."""
    return 1 / CHUNKS if row.chunks else 1.0


def _log_probabilities(t: Tape, p: Profile, logits: Var) -> Size:
    """Log-probabilities of the tokens of each sequence (trl/trainer/utils.py, selective_log_softmax). 16-bit logits: the
    log-softmax of one sequence after the other is kept, the gradient of all is made. fp32: the logits are kept for their
    log-sum-exps; in the backward there are the gradients of picked values and of sums, and the sum of both. The logits of
    another pass, without a gradient, stand beside them until its values are picked.
    """
    wide = p.loss == "log-probs-fp32" or logits.each == FP32
    x = ops.cast(t, logits, FP32) if wide else logits
    t.result = x
    row = Size(position=x.each * logits.elements.token)
    labels = Var(Size(token=1), INT64, False, f"{t.path}/labels")
    kept = x if wide else Var(x.elements, x.each, False, "log-softmax, by sequence")
    gradient = Step("temp", x.bytes)
    steps = [gradient, gradient, Step("input", x.bytes)] if wide else [Step("input", x.bytes)]
    saved = [kept, labels]
    if p.preference.likelihood:  # of the chosen half
        half = Var(x.elements * 0.5, x.each, False, "log-softmax of the chosen sequences")
        saved.append(half)
        if not wide:  # else its gradient is there before those of the log-probabilities
            steps.append(Step("temp", half.bytes))
    t.emit("loss", [x], Size(fixed=1), FP32, saved, steps)
    held = Size() if wide else x.bytes
    if p.preference.reference:  # its logits, in fp32 beside the 16-bit ones, or two sequences' log-softmax
        held = held + logits.bytes + (x.bytes if x is not logits else row + row if not wide else Size())
    return held


CHUNKS = 8  # torchtune's num_output_chunks; torchtitan's ChunkedCELoss cuts the sequence alike


def _loss_node(t: Tape, x: Var, held: Size, steps: list[Step]) -> Size:
    labels = Var(Size(token=1), INT64, False, f"{t.path}/labels")
    t.emit("loss", [x], Size(fixed=1), FP32, [x, labels], steps)
    return held
