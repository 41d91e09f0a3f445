"""A learned vector that mixes what a branch returns with the residual (Muse Spark)."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class ResidualGate(Block, without=("constants", "cache", "state", "forward", "traits")):
    """β = σ(w), α = √(σ(−w)(1 + β)) of a vector w [hidden], in fp32 whatever the rest is in."""

    wired = True

    hidden: int

    def weights(self) -> tuple[Weight, ...]:
        return (Weight("gate", "other", (self.hidden,)),)

    def mixing(self, t: Tape, p: Profile) -> tuple[Var, Var]:
        """α and β; what made them is a few vectors (modeling_muse_spark.MuseSparkResidualGate)."""
        trained, size = p.method.trained, Size(fixed=self.hidden)
        kept = [Var(size * 5, FP32, False, f"{t.path}/what made α and β")] if trained else []
        learned = [Step("weight", size * FP32)] if trained else []
        beta = t.emit("β", [], size, FP32, kept, learned, trained=trained)
        alpha = t.emit("α", [beta], size, FP32)
        return alpha, beta
