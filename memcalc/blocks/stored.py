"""The tensors of a weight file: what is stored, in which format, and what each tensor is to the model.

The counterpart of an Architecture: that one says which weights a model has, this one which bytes a file holds.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from memcalc.blocks.ledger import ROLES, Shape
from memcalc.frozen import NamedTuple, dataclass

LANGUAGE, VISION, AUDIO, PROJECTOR, PREDICTION = "language", "vision", "audio", "projector", "prediction"
UNBUFFERED = "the compute buffer of the image or sound tower (mmproj) is not modelled: leave room for it"


class StoredTensor(NamedTuple):
    """One tensor as a file holds it."""

    name: str
    format: str  # of memcalc.dtypes
    shape: Shape  # as stored, in the order of PyTorch (rows first); packed codes count as the integers that hold them
    bytes: int  # exactly as stored
    file: str
    role: str = "other"  # one of ROLES: that of the weight it belongs to, for scales and zero points as well
    layer: int | None = None  # its number in the stack of its part, None outside
    part: str = LANGUAGE
    parameters: int | None = 0  # weights it stands for: 0 for scales, buffers and tables, None where nothing says


@dataclass(frozen=True, eq=False)
class StoredTensors:
    """All tensors of a file, or of a set of shards. Compared by identity.

    Of shards that are not there only the totals are known: `tensors` is empty then, and they are what the index declares.
    """

    kind: str  # "safetensors" or "gguf"
    tensors: tuple[StoredTensor, ...]
    files: tuple[str, ...]
    metadata: Mapping[str, Any]
    declared_bytes: int | None = None
    declared_parameters: int | None = None
    warnings: tuple[str, ...] = ()

    @cached_property
    def bytes(self) -> int | None:
        return sum(tensor.bytes for tensor in self.tensors) if self.tensors else self.declared_bytes

    @cached_property
    def parameters(self) -> int | None:
        """Weights that the tensors stand for; None where the packing of one of them is not known."""
        if not self.tensors:
            return self.declared_parameters
        counts = [tensor.parameters for tensor in self.tensors]
        return None if None in counts else sum(count or 0 for count in counts)

    @cached_property
    def decoder(self) -> "StoredTensors":
        """The same without image and sound towers."""
        kept = tuple(tensor for tensor in self.tensors if tensor.part in (LANGUAGE, PREDICTION))
        return self if len(kept) == len(self.tensors) else replace(self, tensors=kept)

    @cached_property
    def by_role(self) -> dict[str, tuple[StoredTensor, ...]]:
        """The tensors of each role that occurs, in the order of ROLES."""
        return {role: found for role in ROLES if (found := tuple(t for t in self.tensors if t.role == role))}

    @cached_property
    def bytes_by_format(self) -> dict[str, int]:
        """Bytes held in each number format, most first."""
        totals: dict[str, int] = {}
        for tensor in self.tensors:
            totals[tensor.format] = totals.get(tensor.format, 0) + tensor.bytes
        return dict(sorted(totals.items(), key=lambda entry: (-entry[1], entry[0])))
