"""Log-probabilities over a vocabulary, forward and backward, as PyTorch allocates them: what the head's tape says of them.

The operations are those of trl/trainer/utils.py, selective_log_softmax, of the DPO loss with its reference in the same step
(trl/trainer/dpo_trainer.py), and of the likelihood that ORPO adds (trl/experimental/orpo/orpo_trainer.py); under accelerate the
logits are converted to fp32 first (accelerate/utils/operations.py, convert_outputs_to_fp32).
"""

import weakref
from typing import Any

import pytest

from memcalc.autograd.profile import Formats, MethodTraits, Preference, Profile
from memcalc.blocks.head import Head
from memcalc.blocks.recording import record_exit

pytestmark = pytest.mark.torch
SEQUENCES, LENGTH, VOCABULARY, WIDTH = 8, 48, 20_000, 16
TOKENS = SEQUENCES * LENGTH
LARGE = LENGTH * VOCABULARY  # elements: what is smaller than one sequence's logits is not counted


def _storages() -> Any:
    """A mode that counts the bytes of large storages that are alive."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten

    class Watch(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.alive: dict[int, int] = {}
            self.peak = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            for tensor in tree_flatten(out)[0]:
                if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes() >= LARGE:
                    storage = tensor.untyped_storage()
                    if storage._cdata not in self.alive:
                        self.alive[storage._cdata] = storage.nbytes()
                        weakref.finalize(storage, self.alive.pop, storage._cdata, None)
                        self.peak = max(self.peak, sum(self.alive.values()))
            return out

    return Watch()


def _picked(logits: Any, labels: Any) -> Any:
    import torch
    from torch.nn import functional

    if logits.dtype == torch.float32:
        own = logits.gather(-1, labels[..., None])[..., 0]
        return own - torch.stack([torch.logsumexp(each, dim=-1) for each in logits])
    found = []
    for each, names in zip(logits, labels, strict=True):
        row = functional.log_softmax(each, -1)  # which lives until the next one has been made
        found.append(row.gather(-1, names[:, None])[:, 0])
    return torch.stack(found)


def _measured(wide: bool, preference: Preference) -> float:
    """Bytes a token and word at the peak."""
    import torch
    from torch.nn import functional

    hidden = torch.randn(SEQUENCES, LENGTH, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    head = torch.randn(VOCABULARY, WIDTH, dtype=torch.bfloat16)
    labels = torch.randint(0, VOCABULARY, (SEQUENCES, LENGTH))

    def scores() -> Any:
        found = hidden @ head.T
        return found.float() if wide else found

    with _storages() as watch:
        logits = scores()
        likelihood = torch.zeros(())
        if preference.likelihood:
            half = SEQUENCES // 2
            shifted = logits[:half, :-1].contiguous().view(-1, VOCABULARY)
            likelihood = functional.cross_entropy(shifted, labels[:half, 1:].reshape(-1))
            del shifted
        loss = _picked(logits, labels).sum(-1).float() + likelihood
        if preference.reference:
            with torch.no_grad():
                other = _picked(scores(), labels).sum(-1)
            loss = loss - other
        del logits
        loss.sum().backward()
    return float(watch.peak / (TOKENS * VOCABULARY))


CASES = {
    "own": Preference(True), "with a reference": Preference(True, True), "with a likelihood": Preference(True, False, True),
}  # fmt: skip


@pytest.mark.parametrize("wide", [False, True], ids=["bf16", "fp32"])
@pytest.mark.parametrize("case", CASES)
def test_peak_of_log_probabilities(case: str, wide: bool) -> None:
    """4 and 16 bytes of the model's own; 6.5 with a reference in 16 bits; 6 and 18 with a likelihood beside them."""
    preference = CASES[case]
    profile = Profile(
        loss="log-probs-fp32" if wide else "log-probs",
        formats=Formats(autocast=False),
        method=MethodTraits(trained=False),
        preference=preference,
    )
    found = record_exit((("head", Head(VOCABULARY, WIDTH)),), profile, WIDTH, keep_gradients=True)
    forward = found.saved_bytes + found.loss_held
    sizes = [forward, *found.peaks]
    ours = max(size.token * TOKENS + size.position * LENGTH for size in sizes) / (TOKENS * VOCABULARY)
    assert ours == pytest.approx(_measured(wide, preference), rel=0.08)
