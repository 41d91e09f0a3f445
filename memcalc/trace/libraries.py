"""The optional libraries, or one sentence that says how to get them."""

from typing import Any

from memcalc.errors import Unsupported
from memcalc.frozen import NamedTuple

INSTALL = "python3 -m pip install 'memcalc[torch]'"


class Libraries(NamedTuple):
    """The modules themselves: typed as Any, so that type checks need neither."""

    torch: Any
    transformers: Any

    @property
    def versions(self) -> dict[str, str]:
        return {"torch": str(self.torch.__version__), "transformers": str(self.transformers.__version__)}


def libraries() -> Libraries:
    """PyTorch and transformers; Unsupported where they are not installed."""
    try:
        import torch
        import transformers
    except ImportError as error:
        missing = f" ({error.name} is missing)" if error.name else ""
        raise Unsupported(f"trace needs PyTorch and transformers{missing}: {INSTALL}") from None
    return Libraries(torch, transformers)
