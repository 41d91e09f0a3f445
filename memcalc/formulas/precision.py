"""What each precision word keeps in memory, per parameter, and what it computes in.

`bf16`: everything bf16. `bf16-amp`: fp32 weights and states under autocast. `bf16-mixed`: what the engine calls mixed;
engines differ in where the fp32 copy lives, so the rows name the engine.
"""

from memcalc.frozen import NamedTuple

BYTES = {"": 0, "fp32": 4, "fp16": 2, "bf16": 2}  # of the formats that appear below


class Precision(NamedTuple):
    """Number formats of one training precision; `bytes_of("weights")` is the size of one element."""

    name: str
    weights: str  # format of the parameters that the model computes with (or is gathered from)
    gradients: str
    master: str  # a separate full-precision copy of the weights, "" when the weights are that copy
    states: str  # default format of optimizer states
    compute: str  # format of activations
    note: str
    autocast: bool = False  # matrix products cast what they read, all else follows the types of its inputs
    products: str = ""  # what linear layers multiply in, where it is not `compute`

    def bytes_of(self, part: str) -> int:
        """Bytes of one element of weights, gradients, master, states or compute; 0 where there is no such copy."""
        return BYTES[getattr(self, part)]


PRECISIONS: tuple[Precision, ...] = (
    Precision("fp32", "fp32", "fp32", "", "fp32", "fp32", "everything fp32"),
    Precision("fp16", "fp16", "fp16", "", "fp16", "fp16", "everything fp16 (pure)"),
    Precision("bf16", "bf16", "bf16", "", "bf16", "bf16", "everything bf16 (pure)"),
    Precision("fp16-amp", "fp32", "fp32", "", "fp32", "fp16", "fp32 weights and states, fp16 autocast", autocast=True),
    Precision("bf16-amp", "fp32", "fp32", "", "fp32", "bf16", "fp32 weights and states, bf16 autocast", autocast=True),
    Precision("fp16-mixed", "fp16", "fp16", "fp32", "fp32", "fp16", "fp16 weights and gradients, fp32 master weights"),
    Precision("bf16-mixed", "bf16", "bf16", "fp32", "fp32", "bf16", "bf16 weights and gradients, fp32 master weights"),
    Precision("fp8-mixed", "bf16", "bf16", "fp32", "fp32", "bf16", "as bf16-mixed; matrix products take fp8 copies",
              products="fp8"),
    Precision("nvfp4-mixed", "bf16", "bf16", "fp32", "fp32", "bf16",
              "as bf16-mixed; linear layers in NVFP4 (Transformer Engine)", products="nvfp4"),
    Precision("int8-mixed", "bf16", "bf16", "", "bf16", "bf16", "as bf16; linear layers multiply int8 copies (torchao)",
              products="int8"),
)  # fmt: skip
PRECISION_NAMES = tuple(row.name for row in PRECISIONS)
_BY_NAME = {row.name: row for row in PRECISIONS}

# Under FSDP2 mixed precision the fp32 shards are the master copy, gathered in 16 bit; gradients are reduced in fp32
# (torch.distributed.fsdp.MixedPrecisionPolicy(param_dtype=bf16, reduce_dtype=fp32)).
_FSDP_MIXED = {
    name: _BY_NAME[name]._replace(weights="fp32", gradients="fp32", master="", note=note)
    for name, note in (
        ("fp16-mixed", "fp32 shards gathered in fp16, gradients reduced in fp32"),
        ("bf16-mixed", "fp32 shards gathered in bf16, gradients reduced in fp32"),
        ("fp8-mixed", "fp32 shards gathered in bf16, matrix products in fp8"),
        ("nvfp4-mixed", "fp32 shards gathered in bf16, linear layers in NVFP4"),
    )
}


def precision(name: str, *, fsdp: bool = False) -> Precision:
    """The row for a precision word, under FSDP where asked.

    >>> precision("bf16-mixed").master, precision("bf16-mixed", fsdp=True).weights
    ('fp32', 'fp32')
    """
    return _FSDP_MIXED.get(name, _BY_NAME[name]) if fsdp else _BY_NAME[name]
