"""How tokens spread over experts, and how many rows an expert takes."""

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.block import Traits
from memcalc.estimates.placement import main_parts
from memcalc.estimates.training.profiles import routed_tokens
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training


def experts_of(architecture: Architecture) -> tuple[Traits, ...]:
    """The distinct mixtures of experts in the layers, by their traits."""
    layers = (layer for part in main_parts(architecture) for stack in part.stacks for layer in stack.layers)
    mixtures = dict.fromkeys(block for layer in layers for _, block in layer.blocks if block.traits.experts)
    return tuple(block.traits for block in mixtures)


def most_imbalance(mixture: Traits, ep: int) -> float:
    """The most that one of `ep` ranks can have over the mean: every token sends it all that its experts can take."""
    return min(mixture.top_k, mixture.experts // ep) * ep / mixture.top_k


def check_routing(architecture: Architecture, run: Training) -> None:
    """Raises SpecError for settings of routing that the model's experts contradict."""
    mixtures = experts_of(architecture)
    for name in ("expert_imbalance", "capacity_factor"):
        if getattr(run, name) not in (None, 1.0) and not mixtures:
            raise SpecError("the model has no routed experts", name)
    if run.expert_imbalance > (most := min((most_imbalance(m, run.parallelism.ep) for m in mixtures), default=1.0)):
        raise SpecError(
            f"{run.expert_imbalance:g}, but if all tokens choose one rank's experts it has {most:g} × the mean",
            "expert_imbalance",
        )


def routing_sentences(architecture: Architecture, run: Training) -> list[str]:
    """What a run takes for granted about routing, one sentence for each kind of mixture."""
    mixtures = experts_of(architecture)
    out = []
    if run.expert_imbalance > 1:
        out.append(f"the busiest expert-parallel rank computes {run.expert_imbalance:g} × the mean rows, in every layer alike")
    if run.capacity_factor is None:
        return out
    from memcalc.blocks.experts.kernels import capacity

    tokens = routed_tokens(run)
    for mixture in mixtures:
        most = capacity(tokens, mixture.top_k, mixture.experts, run.capacity_factor)
        taken, sent = most * mixture.experts, tokens * mixture.top_k * run.expert_imbalance
        fate = f"{1 - taken / sent:.1%} of the busiest rank's rows are dropped" if taken < sent else (
            "spread evenly, all tokens fit; what an overfull expert drops is not counted" if run.expert_imbalance == 1
            else "the busiest rank's rows all fit"
        )  # fmt: skip
        filled = "padded to" if run.pad_to_capacity else "at most"
        rows = f"{filled} {most:,} rows an expert from each rank's {tokens:,} tokens"
        out.append(f"capacity factor {run.capacity_factor:g}: {rows}; {fate}")
    return out
