"""Mamba 2's convolution and scan by mamba_ssm's one function, which keeps what was projected and what the states answered.

mamba_ssm/ops/triton/ssd_combined.py, MambaSplitConv1dScanCombinedFn: the forward saves its input (gate, x, B, C and Δ side by
side) and the answers before the gate; the backward makes the convolution, the states of chunks and C Bᵀ again. Megatron-LM
trains by it alone (megatron/core/ssm/mamba_mixer.py, use_mem_eff_path), with its norm after.
"""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, FUSED, Size, Step, Tape, Var
from memcalc.frozen import NamedTuple


class CombinedScan(NamedTuple):
    """Sizes of one rank's heads, and of the groups that share B and C."""

    heads: int
    head_dim: int
    groups: int
    state_size: int
    chunk: int
    kernel: int

    def record(self, t: Tape, p: Profile, joined: Var) -> Var:
        """What the states answer, gated: [heads · head_dim] a token, in the input's type."""
        self._multiply(t)
        each, inner, channels = joined.each, self.heads * self.head_dim, self._channels
        learned = (channels * (self.kernel + 1), self.heads, self.heads, self.heads) if p.method.trained else ()
        steps = [Step("temp", Size(token=channels) * each), Step("input", joined.bytes)]  # x, B and C again; all gradients
        steps += [Step("weight", Size(fixed=size * p.formats.weights)) for size in learned]
        mixed = t.emit("convolution", [joined], Size(token=channels), each, [joined], steps, trained=p.method.trained)
        states = Size(token=inner * self.state_size / self.chunk)
        made = t.emit("states", [mixed], states, FP32, (), [
            Step("temp", states * FP32), Step("temp", states * FP32), Step("input", mixed.bytes)
        ])  # fmt: skip
        passed = t.emit("states, passed on", [made], states, each)
        within = Size(token=self.groups * self.chunk) * FP32  # C Bᵀ and its gradient
        answers = Var(Size(token=inner), each, False, f"{t.path}/answers")
        steps = [Step("temp", within), Step("temp", within), Step("input", mixed.bytes), Step("input", passed.bytes, 1)]
        return t.emit("scan", [mixed, passed], Size(token=inner), each, [answers], steps)

    @property
    def _channels(self) -> int:
        return self.heads * self.head_dim + 2 * self.groups * self.state_size

    def _multiply(self, t: Tape) -> None:
        """The same products as where they are written out (memcalc.blocks.mixers.chunked_scan), C Bᵀ once a group, and of a
        chunk's tokens those before each alone."""
        t.multiply("convolution", Size(token=2 * self.kernel * self._channels), 2)
        inner = self.heads * self.head_dim
        once = Size(token=2 * self.groups * self.chunk * self.state_size + 2 * inner * self.state_size)  # C Bᵀ and states
        t.multiply(FUSED, once, 3)  # backward makes them again
        t.multiply(FUSED, Size(token=2 * inner * (self.chunk / 2 + self.state_size)), 2)
