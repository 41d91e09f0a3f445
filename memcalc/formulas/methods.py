"""Training methods: what each trains, beside what, and how frozen weights are kept. A method is one row."""

from memcalc.frozen import NamedTuple


class TrainingMethod(NamedTuple):
    """One way of training. A user's choice of method changes numbers only through this row."""

    name: str
    note: str
    adapters: bool = False  # low-rank adapters are trained beside frozen weights; else the weights themselves
    quantised: bool = False  # frozen matrices are stored in 4 bits and dequantised for each product
    adapter: str = "lora"  # kind of what is trained beside a matrix
    targets: tuple[str, ...] = ("all-linear",)  # which matrices, unless told otherwise
    ranked: bool = True  # whether the adapters have a rank
    dropout: bool = True  # whether their input may be dropped
    magnitude: bool = False  # a learned magnitude scales each adapted output
    fake_quantised: bool = False  # weights and inputs of matrix products pass a fake quantiser
    shared: bool = False  # frozen projections in fp32 that all adapters share stand beside the weights

    @property
    def pairs(self) -> bool:
        """Whether a low-rank pair of LoRA's kind is beside each matrix; what else there is, PEFT alone has.

        >>> [name for name, row in METHODS.items() if row.pairs]
        ['lora', 'qlora', 'dora']
        """
        return self.adapters and self.adapter == "lora"

    @property
    def backward_share(self) -> float:
        """Of the backward's two products a matrix, for the gradients of its input and its weight, the share that runs: a frozen
        matrix has but the first (Hu et al. 2021; the adapters' own are small).

        >>> METHODS["full"].backward_share, METHODS["lora"].backward_share
        (1.0, 0.5)
        """
        return 0.5 if self.adapters else 1.0


METHODS: dict[str, TrainingMethod] = {
    row.name: row
    for row in (
        TrainingMethod("full", "all weights are trained"),
        TrainingMethod("lora", "low-rank adapters beside frozen weights (Hu et al. 2021)", adapters=True),
        TrainingMethod("qlora", "the same beside 4-bit matrices (Dettmers et al. 2023)", adapters=True, quantised=True),
        TrainingMethod("dora", "adapters with a learned magnitude (Liu et al. 2024)", adapters=True, magnitude=True),
        TrainingMethod(
            "vera", "vectors between shared frozen projections (Kopiczko et al. 2023)", True, adapter="vera", shared=True
        ),
        TrainingMethod(
            "loha", "Hadamard products of two low-rank pairs (Hyeon-Woo et al. 2021)", True, adapter="loha", dropout=False
        ),
        TrainingMethod("lokr", "Kronecker products (Yeh et al. 2023)", True, adapter="lokr", dropout=False),
        TrainingMethod(
            "ia3",
            "vectors that scale keys, values and a feed-forward's inner states (Liu et al. 2022)",
            True,
            adapter="ia3",
            targets=("k", "v", "qkv", "down"),
            ranked=False,
            dropout=False,
        ),
        TrainingMethod(
            "oft",
            "orthogonal rotations of inputs, in blocks of 32 (Qiu et al. 2023)",
            True,
            adapter="oft",
            ranked=False,
            dropout=False,
        ),
        TrainingMethod(
            "prompt-tuning",
            "virtual tokens before each sequence (Lester et al. 2021)",
            True,
            adapter="prompt",
            targets=(),
            ranked=False,
            dropout=False,
        ),
        TrainingMethod(
            "prefix-tuning",
            "keys and values of virtual tokens in every layer (Li and Liang 2021)",
            True,
            adapter="prefix",
            targets=(),
            ranked=False,
            dropout=False,
        ),
        TrainingMethod("qat", "all weights, through a fake quantiser (torchao)", fake_quantised=True),
    )
}
ADAPTING = tuple(row.name for row in METHODS.values() if row.adapters)
RANKED = tuple(row.name for row in METHODS.values() if row.adapters and row.ranked)
LOW_RANK = tuple(row.name for row in METHODS.values() if row.adapters and row.adapter == "lora")
DROPPING = tuple(row.name for row in METHODS.values() if row.adapters and row.dropout)
TARGETING = tuple(row.name for row in METHODS.values() if row.adapters and row.targets)
VIRTUAL = tuple(row.name for row in METHODS.values() if row.adapter in ("prompt", "prefix"))
QUANTISED = tuple(row.name for row in METHODS.values() if row.quantised)


class BaseFormat(NamedTuple):
    """How frozen matrices behind adapters are stored, and what a product with them needs."""

    name: str
    note: str
    block: int  # values
    bytes_per_block: int  # scales and zero points included
    source: str
    expands: bool = True  # the input's gradient needs the matrix in 16 bit, which is made for a moment
    keeps_input: bool = False  # the product holds its input though the matrix has no gradient
    casts: bool = True  # its module casts the input to 16 bits and the result back; else it computes in the input's type
    kbit: bool = False  # transformers says it is loaded in 4 or 8 bits, which recipes ask before k-bit preparation
    plain: bool = False  # PEFT's adapters beside it are those of any linear layer; else they cast under no autocast alone
    upcasts: bool = True  # PEFT's prepare_model_for_kbit_training casts the rest to fp32 (peft/utils/other.py)


_BNB = "bitsandbytes 0.50 autograd/_functions.py, MatMul4Bit"
BASES: dict[str, BaseFormat] = {
    row.name: row
    for row in (
        BaseFormat("nf4-dq", "4-bit NormalFloat, its scales quantised again", 256 * 64, 256 * (32 + 1) + 4, _BNB,
                   kbit=True),
        BaseFormat("nf4", "4-bit NormalFloat with fp32 scales", 64, 32 + 4, _BNB, kbit=True),
        BaseFormat("fp4-dq", "4-bit float, its scales quantised again", 256 * 64, 256 * (32 + 1) + 4, _BNB, kbit=True),
        BaseFormat("fp4", "4-bit float with fp32 scales", 64, 32 + 4, _BNB, kbit=True),
        BaseFormat(
            "int8", "LLM.int8: one byte a value (and a scale a row, not counted)", 1, 1,
            "bitsandbytes 0.50 autograd/_functions.py, MatMul8bitLt: ctx.tensors holds A", keeps_input=True,
            casts=False, kbit=True,
        ),
        BaseFormat(
            "gptq", "GPTQ, 4 bits in groups of 128", 256, 2 * (64 + 2) + 1,
            "auto-gptq nn_modules/triton_utils/kernels.py, transpose_quant_matmul_248_kernel: expands inside the kernel",
            expands=False, upcasts=False,
        ),
        BaseFormat(
            "awq", "AWQ, 4 bits in groups of 128", 256, 2 * (64 + 2) + 1,
            "autoawq modules/linear/gemm.py, WQLinearMMFunction.backward: dequantises",
        ),
        BaseFormat(
            "hqq", "HQQ, 4 bits in groups of 64 with 16-bit scale and zero point", 64, 32 + 4,
            "hqq core/quantize.py, HQQMatmulNoCacheMul.backward; transformers HqqConfig (nbits=4, group_size=64)",
            upcasts=False,
        ),
        BaseFormat(
            "fp8", "e4m3 with an fp32 scale for each block of 128 by 128 (DeepSeek's, transformers' FineGrainedFP8)", 128 * 128,
            128 * 128 + 4, "transformers 5.24 integrations/finegrained_fp8.py, FP8LinearFunction.backward: dequantises",
            casts=False, plain=True,
        ),
    )
}  # fmt: skip
