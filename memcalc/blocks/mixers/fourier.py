"""FNet's mixer: the real part of a Fourier transform over tokens and channels (Lee-Thorp et al. 2022; transformers
modeling_fnet.py, FNetBasicFourierTransform). It has no weights, and its result is a view of complex numbers."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Fourier(Block, without=("weights", "constants", "cache", "state", "traits")):
    """Re(FFT(x)), in fp32: PyTorch's transforms take no bf16. Its FLOPs, 5 n log n, are not counted."""

    hidden: int

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        wide = ops.cast(t, x, FP32)
        whole = x.elements * 2
        spectrum = t.emit("transform", [wide], whole, FP32, (), [Step("temp", whole * FP32), Step("input", wide.bytes)])
        real = t.emit("real part", [spectrum], x.elements, FP32, (), [Step("input", spectrum.bytes)])
        real.whole = spectrum
        return real
