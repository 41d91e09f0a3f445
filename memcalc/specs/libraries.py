"""Versions of libraries whose loss changed: what each computes the cross-entropy in.

Sources: transformers loss/loss_utils.py (4.46 moved the loss there, 4.50 shifts the labels in place of the logits) and, before,
each model's own forward; trl/trainer/sft_config.py (before 1.6 SFT's loss was that of transformers); Transformer Engine
pytorch/triton/cross_entropy.py.
"""

import re

from memcalc.frozen import NamedTuple
from memcalc.specs.spec import SpecError


class Library(NamedTuple):
    """Losses from a version on, newest first, of one set of kernels."""

    kernels: str  # key of memcalc.autograd.profile.KERNELS
    losses: tuple[tuple[tuple[int, ...], str], ...]  # version, key of memcalc.autograd.profile.LOSSES


LIBRARIES = {
    "transformers": Library("eager", (((4, 50), "full"), ((4, 46), "shifted"), ((4, 0), "shifted-upcast"))),
    "trl": Library("eager", (((1, 6), "chunked-nll"),)),
    "transformer-engine": Library("te", (((2, 18), "te-fp32"), ((1, 0), "te"))),
}
VERSION = re.compile(r"(?P<name>[A-Za-z_-]{2,30})==(?P<version>\d{1,4}(\.\d{1,4}){0,3})", re.ASCII)


def loss_of(library: str, kernels: str) -> str:
    """The loss of a library's version. Raises SpecError where it is not known, or not the library of these kernels.

    >>> loss_of("transformers==4.46.3", "eager"), loss_of("transformers==5.2", "eager")
    ('shifted', 'full')
    """
    known = " or ".join(f"{name}==VERSION" for name in LIBRARIES)
    name, version = _said(library)
    if name not in LIBRARIES:
        raise SpecError(f"must be {known}, not {library!r}", "library")
    row = LIBRARIES[name]
    if row.kernels != kernels:
        raise SpecError(f"{name} does not compute the loss of {kernels} kernels; leave it out, or name the loss", "library")
    loss = next((loss for since, loss in row.losses if version >= since), None)
    if loss is None:
        oldest = ".".join(map(str, row.losses[-1][0]))
        raise SpecError(f"the loss of {name} before {oldest} is not modelled; name it with loss", "library")
    return loss


def is_before(library: str | None, name: str, version: tuple[int, ...]) -> bool:
    """Whether a library is named, and older than a version.

    >>> is_before("transformers==4.15", "transformers", (4, 19)), is_before(None, "transformers", (4, 19))
    (True, False)
    """
    said, its = _said(library or "")
    return said == name and its < version


def _said(library: str) -> tuple[str, tuple[int, ...]]:
    """A library's name and version; none of either where it is written otherwise."""
    found = VERSION.fullmatch(library)
    if found is None:
        return "", ()
    return found["name"].lower().replace("_", "-"), tuple(int(part) for part in found["version"].split("."))
