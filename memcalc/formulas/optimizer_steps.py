"""What an optimizer's step allocates beside its states and gradients, by implementation.

Traced with each library's own `step()` over one and over eight equal matrices, in bf16 and fp32, from the second step on:
what grows with their number is made of all tensors at once, what does not of the tensor in hand. Kernels of Apex,
bitsandbytes, Transformer Engine and torch's fused ones make nothing.
"""

from math import prod

from memcalc.formulas.optimizer_states import Optimizer, Shape
from memcalc.formulas.optimizers import bytes_of, states_of
from memcalc.frozen import NamedTuple

FP32, HALF = 4, 2


class StepTemporaries(NamedTuple):
    """Copies of what is updated that live at once."""

    copies: float = 0  # in the parameter's own format
    fp32: float = 0
    casts: float = 0  # in fp32, unless the parameter is fp32 itself
    half: float = 0  # in 16 bit whatever the parameter's format
    states: bool = False  # the tensor's states visit the device for its update
    at_once: bool = False  # of all tensors together; else of the tensor in hand

    def bytes_per_element(self, parameter_bytes: int) -> float:
        """Bytes for each element updated, but for states that visit.

        copies × parameter_bytes + 4 × fp32 + 4 × casts (0 where parameter_bytes is 4) + 2 × half

        >>> StepTemporaries(fp32=3, casts=1).bytes_per_element(2), StepTemporaries(fp32=3, casts=1).bytes_per_element(4)
        (16, 12)
        """
        casts = self.casts if parameter_bytes != FP32 else 0
        return self.copies * parameter_bytes + FP32 * (self.fp32 + casts) + HALF * self.half


OWN = "own"
NONE = StepTemporaries()
ONE_OF_ALL, TWO_OF_ALL = StepTemporaries(1, at_once=True), StepTemporaries(2, at_once=True)
ONE, TWO = StepTemporaries(1), StepTemporaries(2)
Implementations = dict[str, StepTemporaries]  # by name; OWN is the library's, where there is no choice
ADAM_STEPS: Implementations = {"fused": NONE, "foreach": ONE_OF_ALL, "for-loop": TWO}

# The first implementation is what an engine's "fused" comes to where the library has no fused one.
STEP_TEMPORARIES: dict[str, Implementations] = {
    # torch/optim/sgd.py: momentum is updated and added in place, whatever the implementation
    "sgd": dict.fromkeys(("fused", "foreach", "for-loop"), NONE),
    "sgd-momentum": dict.fromkeys(("fused", "foreach", "for-loop"), NONE),
    "adam": ADAM_STEPS,
    "adamw": ADAM_STEPS,
    "adagrad": {"fused": NONE, "foreach": TWO_OF_ALL, "for-loop": ONE},  # torch/optim/adagrad.py
    "rmsprop": {"foreach": ONE_OF_ALL, "for-loop": ONE},  # torch/optim/rmsprop.py has no fused one
    "adafactor": {"for-loop": ONE, "foreach": ONE_OF_ALL},  # torch/optim/_adafactor.py: foreach only where asked for
    "adafactor-momentum": {OWN: StepTemporaries(fp32=2, casts=2)},  # transformers/optimization.py, Adafactor.step
    # torch/optim/_muon.py: the update, then four bf16 matrices of the Newton-Schulz iteration; the rest is AdamW's
    "muon": {"fused": StepTemporaries(1, half=4), "foreach": StepTemporaries(1, half=4),
             "for-loop": StepTemporaries(1, half=4)},
    "schedule-free-adamw": {"foreach": ONE_OF_ALL, "for-loop": ONE},  # schedulefree 1.4: foreach by default
    "schedule-free-radam": {"foreach": ONE_OF_ALL, "for-loop": ONE},
    "stable-adamw": {OWN: NONE, "foreach": ONE_OF_ALL, "for-loop": TWO},  # torch-optimi 0.3: a Triton kernel by default
    "lion": {OWN: TWO},  # lion-pytorch 0.2, update_fn
    "came": {OWN: StepTemporaries(fp32=3, casts=1)},  # came-pytorch 0.1.3 CAME.py
    "adam-mini": {OWN: TWO},
    "galore": {OWN: TWO},  # galore-torch 1.0 adamw.py: the projected-back update and its scaled copy
    "apollo": {OWN: TWO},
    "apollo-mini": {OWN: TWO},
    "prodigy": {OWN: ONE},  # prodigyopt 1.1: the denominator
    "grokadamw": {OWN: StepTemporaries(2, states=True)},  # grokadamw 0.1: states come from the host and go back
    "sophia": {OWN: StepTemporaries(3)},  # sophia.py, _single_tensor_sophiag: |m|, ρ·b·h and the same + ε
    "lomo": {OWN: StepTemporaries(fp32=0, casts=2)},  # lomo-optim 0.1 lomo.py: gradient and parameter in fp32
    "adalomo": {OWN: StepTemporaries(fp32=2, casts=1)},  # adalomo.py: g² twice beside the fp32 gradient
}  # fmt: skip
# Steps of several matrices' size that nobody has traced: not counted, and the answer says so.
UNTRACED = frozenset({"shampoo", "soap", "dion", "q-galore", "galore-adafactor"})


def implementation(opt: Optimizer, asked: str) -> str:
    """The implementation that a wish comes to: itself, or the library's own.

    >>> from memcalc.formulas.optimizers import optimizer
    >>> implementation(optimizer("adamw"), "fused"), implementation(optimizer("rmsprop"), "fused")
    ('fused', 'foreach')
    """
    there = STEP_TEMPORARIES.get(opt.name, {OWN: NONE})
    return asked if asked in there else next(iter(there))


def choices(opt: Optimizer) -> tuple[str, ...]:
    """The implementations that a user can name; a library's one step goes tensor by tensor, most in one kernel."""
    return tuple(name for name in STEP_TEMPORARIES.get(opt.name, {}) if name != OWN) or ("fused", "for-loop")


def step_temporaries(opt: Optimizer, asked: str) -> StepTemporaries:
    """What one of an optimizer's implementations makes."""
    return STEP_TEMPORARIES.get(opt.name, {OWN: NONE})[implementation(opt, asked)]


def tensor_bytes(opt: Optimizer, asked: str, shape: Shape, role: str, *, parameter_bytes: int) -> int:
    """What the update of one tensor makes for a moment: by its own optimizer, or by AdamW where it is left to it.

    elements × bytes per element (+ its states, where they visit the device)

    shape [elements], asked: an implementation, parameter_bytes [B]. Returns bytes [B].

    >>> from memcalc.formulas.optimizers import optimizer
    >>> tensor_bytes(optimizer("adamw"), "for-loop", (4096, 4096), "mlp", parameter_bytes=2) == 2 * 2 * 4096**2
    True
    """
    made = step_temporaries(opt, asked)
    if opt.name in MATRICES and states_of(opt, shape, role) is opt.otherwise:
        made = ADAM_STEPS.get(asked, NONE)
    size = int(prod(shape) * made.bytes_per_element(parameter_bytes))
    if made.states:
        size += sum(bytes_of(state, shape, parameter_bytes=parameter_bytes) for state in states_of(opt, shape, role))
    return size


MATRICES = frozenset({"muon"})  # the others' own step updates what they leave to AdamW too
