"""How long a training runs in all, at what price, and over what network: what a step's time becomes days and money by."""

from typing import Annotated

from memcalc.specs.spec import HARDWARE, Spec, SpecError, rule, setting, within

HORIZON = "Days and money"


class Horizon(Spec):
    """Of a whole run; without any of it a step is timed alone."""

    tokens: Annotated[int, within(1, 10**20)] | None = setting(None, "Training tokens: days and money of them.", HORIZON)
    dataset_samples: Annotated[int, within(1, 10**15)] | None = setting(
        None, "Sequences of the dataset, in place of tokens.", HORIZON
    )
    epochs: Annotated[float, within(0.001, 1e6)] | None = setting(
        None, "Passes over the dataset.", HORIZON, otherwise="1"
    )  # fmt: skip
    price: Annotated[float, within(1e-6, 1e6)] | None = setting(
        None, "USD a GPU-hour.", HORIZON, otherwise="the middle of a dated range"
    )
    network: Annotated[float, within(1e6, 1e14)] | None = setting(
        None, "Between nodes, a GPU's share of the cards, one way: 50GB/s.", HARDWARE, kind="bandwidth",
        otherwise="what such machines have",
    )  # fmt: skip

    @rule()
    def _check(self) -> None:
        if self.tokens is not None and self.dataset_samples is not None:
            raise SpecError("tokens follow from the samples; choose one", "tokens", "dataset_samples")
        if self.epochs is not None and self.dataset_samples is None:
            raise SpecError("passes over which dataset? add dataset_samples, or give tokens alone", "epochs", "dataset_samples")
        if self.price is not None and self.tokens is None and self.dataset_samples is None:
            raise SpecError("of how much training? add tokens, or dataset_samples", "price", "tokens")

    def tokens_of(self, seq_len: int) -> int | None:
        """Of the whole run, where it is said."""
        if self.dataset_samples is not None:
            return round(self.dataset_samples * seq_len * (self.epochs or 1))
        return self.tokens
