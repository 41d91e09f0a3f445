"""How a block is executed: number formats, attention kernel, what is fused, what is trained, and the parallel degrees.

What a block saves depends on who wrote its kernels. A profile is one row of facts that blocks read while they record onto
the tape; KERNELS is the table of implementations.
"""

from memcalc.autograd.tape import FP32, HALF
from memcalc.frozen import NamedTuple


class Kernels(NamedTuple):
    """What an implementation fuses. Each flag is a fact that a block's ledger reads."""

    name: str
    note: str
    fused_norm: bool = False  # saves its input and the statistics, no fp32 copies
    fused_rotary: bool = False
    fused_activation: bool = False  # gate and up are kept, silu(gate) and the product recomputed
    loss: str = ""  # key of LOSSES: the loss that comes with them, "" for the engine's
    fused_qkv: bool = False  # one query-key-value product, its adapters padded to the full width (LoRAQKVLinear)
    repeats_keys: bool = False  # keys and values are copied for every query head, whatever the attention kernel
    native_gelu: bool = False  # gelu's tanh form is PyTorch's own kernel, not written out
    merged: bool = False  # query, key and value, gate and up: one product each; attention lays its inputs out anew
    gathers_again: bool = False  # sequence parallelism keeps a rank's share of what it gathers, and gathers it again
    fused_chains: bool = False  # what one pointwise operation alone reads of another is never written
    fused_adapters: bool = False  # adapted MLP, query, key, value and output are functions that keep their inputs (Unsloth)
    quantised_head: bool = False  # the head is quantised too, which transformers leaves out (get_keys_to_not_convert)
    flash_linear: bool = False  # linear attention is flash-linear-attention's, Mamba 2 mamba_ssm's (megatron/core/ssm)
    gates_in_place: bool = False  # the gradients of gate and up are written over them (Liger's ops/swiglu.py and geglu.py)
    own_products: bool = False  # not PyTorch's: they keep casts to few bits, for a step of weights, and adapters widen nothing
    newest_attention: bool = False  # the fastest there is for the accelerator (cuDNN's), whatever the kernel of attention
    keeps_quantised_inputs: bool = False  # 4-bit products keep their input though nothing needs it (bitsandbytes before 0.43.2)
    quantised_from_half: bool = False  # 4-bit matrices expand to fp16 and are cast (Lightning's BitsandbytesPrecision)


KERNELS: dict[str, Kernels] = {
    row.name: row
    for row in (
        Kernels("eager", "Hugging Face modules as written: norms upcast, every intermediate kept"),
        Kernels("compiled", "torch.compile: pointwise chains fuse, their inputs are kept", True, True, True, "compiled",
                fused_chains=True),
        Kernels(
            "liger", "Liger kernels: norm, rotary, SwiGLU and the loss fused", True, True, True, "fused", gates_in_place=True
        ),
        Kernels(
            "te", "Transformer Engine: LayerNormLinear, fused attention, its cross-entropy over the 16-bit logits",
            True, True, True, "te", merged=True, gathers_again=True, flash_linear=True, own_products=True,
            newest_attention=True,
        ),
        Kernels(
            "unsloth", "Unsloth's norm, rotary embedding and loss; its functions where all of a layer is adapted",
            True, True, False, "in-place", fused_adapters=True,
        ),
        Kernels(
            "litgpt", "LitGPT's modules: fused query-key-value, repeated keys and values",
            fused_qkv=True, repeats_keys=True, native_gelu=True, quantised_head=True, keeps_quantised_inputs=True,
            quantised_from_half=True,
        ),
    )
}  # fmt: skip


class Loss(NamedTuple):
    """How cross-entropy is computed from the logits."""

    name: str
    note: str
    upcast: bool = True  # in fp32; else in the logits' own type
    half_kept: bool = True  # the 16-bit logits stay beside the upcast ones until the forward ends
    shifted: bool = False  # the label shift copies the logits
    log_softmax: bool = True  # kept; else the gradient is written over the logits
    output_kept: bool = False  # the logits that the model returned live through the backward
    chunks: bool = False  # the gradient exists one chunk at a time
    head_tokens: int = 0  # tokens that the head is applied to at a time, again in the backward: logits are never whole
    head_words: int = 0  # words of the vocabulary at a time, 0: all


LOSSES: dict[str, Loss] = {
    row.name: row
    for row in (
        Loss("full", "logits upcast to fp32, log-softmax kept (transformers ≥ 4.50, which shifts the labels)"),
        Loss("upcast", "as full, of fp32 logits that the model returns (torchtitan until October 2024)", half_kept=False),
        Loss("chunked", "fp32 copy, log-softmax and gradient one chunk at a time", chunks=True),
        Loss("fused", "logits one chunk at a time, gradients made in the forward (Liger)", chunks=True),
        Loss(
            "chunked-head",
            "the head over 512 tokens at a time, and again in the backward (verl's FusedLinearForPPO)",
            chunks=True,
            head_tokens=512,
        ),
        Loss(
            "tiled-head",
            "the head over 1,024 tokens by 8,192 words at a time, and again in the backward (prime-rl)",
            chunks=True,
            head_tokens=1024,
            head_words=8192,
        ),
        Loss(
            "chunked-nll",
            "the head, upcast to fp32, over 256 tokens at a time, and again in the backward (TRL ≥ 1.6)",
            chunks=True,
            head_tokens=256,
        ),
        Loss("compiled", "torch.compile: reads 16-bit logits and keeps only the log-sum-exp beside them", False),
        Loss("shifted", "as full, and the label shift copies the logits (transformers 4.46 to 4.49)", shifted=True),
        Loss("shifted-upcast", "the same without the 16-bit logits (transformers ≤ 4.45)", half_kept=False, shifted=True),
        Loss("shifted-half", "in 16 bit, shifted, the output kept alive (GPTBigCode)", False, True, True, output_kept=True),
        Loss("in-place", "Unsloth's kernel over shifted fp32 logits", half_kept=False, shifted=True, log_softmax=False),
        Loss(
            "te", "Transformer Engine < 2.18: the gradient is written over the 16-bit logits", False, False, log_softmax=False
        ),
        Loss("te-fp32", "Transformer Engine ≥ 2.18: an fp32 gradient, cast in the backward", log_softmax=False),
        Loss("vocab-parallel", "Megatron's own: fp32 probabilities, the gradient written over them", log_softmax=False),
        Loss("log-probs", "of preferences: log-softmax sequence by sequence, in the logits' own type (TRL)", False),
        Loss("log-probs-fp32", "of preferences: fp32 logits, of which log-sum-exps are taken (TRL under accelerate)"),
        Loss("listed", "LitGPT: fp32 logits and log-softmax of all chunks", half_kept=False, output_kept=True, chunks=True),
    )
}


class LowPrecision(NamedTuple):
    """Linear layers that multiply copies in few bits of what they read. Bytes of an element."""

    input: float = 0.0  # kept for the backward in the input's place; 0: the input itself
    weight: float = 0.0  # copies of the weight that are kept for the backward
    operands: float = 0.0  # of each operand's copy while a product runs


# NVFP4: 4 bits and an e4m3 scale for 16 values; the input is kept by columns alone, the weight by rows and columns, anew in
# the backward under FSDP2 (transformer_engine/pytorch/module/linear.py, update_usage and wt_save). int8: input and weight are
# saved as they are, both operands of a product are cast (torchao/prototype/quantized_training/int8_mixed_precision.py).
NVFP4 = (4 + 8 / 16) / 8
LOW = {
    "nvfp4": LowPrecision(NVFP4, 2 * NVFP4, NVFP4),
    "nvfp4, sharded": LowPrecision(NVFP4, 0.0, NVFP4),
    "int8": LowPrecision(operands=1.0),
}


class Formats(NamedTuple):
    """Bytes of one element, and who casts."""

    compute: int = HALF  # activations and matrix products
    weights: int = HALF  # the parameters as the layer sees them
    autocast: bool = False  # weights and inputs of matrix products are cast, the rest follows their types
    saved_input: int = 0  # of a matrix product's saved input where it differs from compute (fp8)
    low: str = ""  # what linear layers multiply in: a key of LOW
    wide_stream: bool = False  # the residual stream is fp32 without autocast too (Mamba's residual_in_fp32)
    kbit: str = ""  # what is fp32 beside quantised matrices: "all" else, or "norms" alone

    @property
    def residual(self) -> int:
        """Bytes of the residual stream's elements: fp32 under autocast, from the embedding, or from fp32 norms."""
        return FP32 if self.autocast or self.wide_stream or self.kbit else self.compute

    @property
    def product(self) -> int:
        """Bytes of an element of a product with what is not quantised."""
        return self.weights if self.kbit and not self.autocast else self.compute

    @property
    def norms(self) -> int:
        """Bytes of an element of what norms learn."""
        return FP32 if self.kbit else self.weights


class MethodTraits(NamedTuple):
    """What is trained."""

    trained: bool = True  # weights need gradients
    frozen_embeddings: bool = False  # but what is looked up by token or position does not, nor a head tied to it
    leaf: bool = False  # the embedded tokens are a leaf of their own, so that a gradient flows behind frozen embeddings
    fake_quantised: bool = False  # quantisation-aware training: weights and inputs pass a fake quantiser
    accumulated: bool = False  # matrix products add weights' gradients to main gradients themselves
    quantised: bool = False  # frozen matrices are dequantised for each product
    expands: bool = True  # into a 16-bit copy; else inside the kernel
    casts: bool = True  # quantised products take 16-bit inputs and give their result the input's type
    keeps_inputs: bool = False  # quantised products hold their inputs (LLM.int8)
    dropout: bool = True  # training mode: dropouts with p > 0 keep masks
    prompt: int = 0  # virtual tokens before each sequence, which alone are trained
    also: tuple[str, ...] = ()  # parts of which copies are trained all the same: embeddings, head, norms
    update: float = 0.0  # bytes that a step inside the backward makes for each byte of the gradient in hand

    def trains(self, part: str) -> bool:
        """Whether embeddings, head or norms get gradients, where nothing is frozen apart."""
        return self.trained or part in self.also


# Matrices that libraries merge into one product, by the product's name.
MERGED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}


class Adapters(NamedTuple):
    """Adapters beside frozen matrices."""

    layers: tuple[str, ...] = ()  # linear layers that have them, by the last part of their path
    rank: int = 0
    kind: str = "lora"
    magnitude: bool = False  # DoRA's: a learned magnitude scales the normalised sum
    itemsize: int = FP32  # of the type they compute in: their own, or autocast's
    autocast: bool = False  # which casts them, and keeps the casts of one forward
    narrow: bool = False  # what they add is cast to the result's type first (PEFT beside quantised matrices, without autocast)
    upcast: bool = True  # PEFT casts the input to the adapters' fp32 first
    dropout: float = 0.0  # on their input
    experts: tuple[str, ...] = ()  # grouped products of routed experts that have them, by the last part of their path
    own: bool = False  # each expert has a pair of its own; else all of a rank share one

    def on(self, name: str) -> bool:
        """Whether a product has one: a merged product where all of its matrices do."""
        return name in self.layers or all(part in self.layers for part in MERGED.get(name, (name,)))

    def merges(self, name: str) -> bool:
        """Whether matrices can be one product: where all or none of them are adapted (Megatron-Bridge peft/lora.py has one pair
        on linear_qkv and one on linear_fc1; its canonical_lora.py, for some of them, a pair on each)."""
        return len({part in self.layers for part in MERGED[name]}) == 1


class Degrees(NamedTuple):
    """Over how many ranks a layer is spread, and how."""

    tp: int = 1
    ep: int = 1
    etp: int = 1
    cp: int = 1
    cp_kind: str = "ring"  # ring, all-gather or all-to-all
    sequence_parallel: bool = False
    whole_logits: bool = False  # tensor-parallel ranks gather the logits before the loss

    @property
    def splits_logits(self) -> bool:
        """Whether the loss runs over a rank's share of the vocabulary."""
        return self.tp > 1 and not self.whole_logits

    @property
    def stream(self) -> float:
        """The share of the tokens outside tensor-parallel regions that one rank holds (norms, dropouts, residual)."""
        return 1 / self.tp if self.sequence_parallel else 1.0


class ExpertLoad(NamedTuple):
    """How rows spread over experts."""

    imbalance: float = 1.0  # rows on the busiest expert-parallel rank over the average
    capacity_factor: float = 0.0  # bounds the rows of an expert to so much of an even share; 0: no bound
    padded: bool = False  # every expert computes as many rows as its capacity


class Batch(NamedTuple):
    """What blocks must know of batch and length. It stays as it is where they need not, so that runs share what is recorded."""

    sequences: int = 1  # of a micro-batch, where a model has something that all of them share
    length: int = 0  # tokens of a sequence where some scan keeps more or less of its first or last chunk, else 0
    masked: bool = False  # the sequence outgrows some sliding window, so that layer needs a mask
    source: float = 1.0  # tokens of the encoder for each token of the decoder
    routed_tokens: int = 0  # tokens that one rank's router sees; known only where a capacity is to be rounded up
    packed: bool = False  # sequences follow each other in a row, or rows are padded, so that each layer needs a mask
    one_by_one: bool = False  # sequences of a row are attended to one by one, their results joined (Qwen2-VL's tower)
    head_tokens: int = 0  # that the head is applied to at a time, where it runs over chunks
    prefix: float = 0.0  # virtual tokens' keys and values, which alone are trained, for each token of a sequence
    tiles: int = 0  # that a feed-forward's tokens are cut into, 0: it runs over all at once

    def padding(self, chunk: int) -> float:
        """How many times the sequence's tokens a scan over chunks of `chunk` tokens computes."""
        return -(-self.length // chunk) * chunk / self.length if self.length else 1.0


# Losses from which log-probabilities of a sequence's tokens are taken
OF_TOKENS = ("log-probs", "log-probs-fp32")
SCORING = (*OF_TOKENS, "fused", "chunked-head", "tiled-head", "vocab-parallel")


class Preference(NamedTuple):
    """What an objective of preferences computes over the vocabulary beside the model's own log-probabilities."""

    scored: bool = False
    reference: bool = False  # another pass's logits stand beside the model's for a moment
    likelihood: bool = False  # half of the sequences have a cross-entropy too


class Keeps(NamedTuple):
    """What stays though no backward needs it."""

    output: bool = False  # the loop holds the model's output through the backward
    cache: bool = False  # the output has keys and values of all layers
    frames: bool = False  # of each convolution over sound nothing but its input: it is made again as layers are


FUSED = frozenset({"q", "k", "v", "output", "gate", "up", "down"})  # what Unsloth adapts unless told otherwise


class Profile(NamedTuple):
    """Facts of one execution."""

    kernels: Kernels = KERNELS["eager"]
    attention: str = "sdpa"  # eager, sdpa or flash
    core_kept: bool = True  # False: attention's scores and probabilities are recomputed (Megatron's selective)
    modules: tuple[str, ...] = ()  # parts of layers that are recomputed alone (Megatron's recompute_modules)
    loss: str = "full"  # key of LOSSES
    formats: Formats = Formats()
    method: MethodTraits = MethodTraits()
    adapters: Adapters = Adapters()
    degrees: Degrees = Degrees()
    load: ExpertLoad = ExpertLoad()
    batch: Batch = Batch()
    keeps: Keeps = Keeps()
    preference: Preference = Preference()

    @property
    def fuses_adapters(self) -> bool:
        """Whether layers run in Unsloth's functions: all of their matrices adapted, none of the adapters with dropout
        (unsloth/models/llama.py, patch_peft_model). Elsewhere modules are as written, as in the libraries that carry copies of
        the norm, rotary embedding and loss alone (fms-acceleration's fused ops and kernels)."""
        adapters = self.adapters
        if not self.kernels.fused_adapters or adapters.kind != "lora":
            return False
        return set(adapters.layers) >= FUSED and not (adapters.dropout or adapters.magnitude)
