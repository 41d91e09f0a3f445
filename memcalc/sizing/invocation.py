"""What was asked, as it was said: the command line that asks it again, and the same with changes."""

import os
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from memcalc.caches import cached
from memcalc.estimates.suggestions import Advice, Suggestion, flags, option_words
from memcalc.frozen import NamedTuple
from memcalc.readers.models import Model
from memcalc.sizing.subjects import AnyAccelerator, AnyModel
from memcalc.specs.device import Device

if TYPE_CHECKING:
    from memcalc.estimates.search import Search, Tried

# How a setting is written with its unit, by the kind of its field.
SPELLED: dict[str, Callable[[Any], str]] = {
    "bytes": lambda value: f"{value}B",
    "bandwidth": lambda value: f"{value / 1e9!r}GB/s",
    "speed": lambda value: f"{value / 1e12!r}TFLOP/s",
}


class Invocation(NamedTuple):
    """A question: command, MODEL and accelerator as they were named, and the settings that were said, flat."""

    command: str
    model: AnyModel
    gpu: AnyAccelerator
    presets: tuple[str, ...]
    settings: dict[str, Any]

    def with_changes(self, changes: Mapping[str, Any]) -> "Invocation":
        """The same with other settings; `gpu` among them is the accelerator."""
        rest = {name: value for name, value in changes.items() if name != "gpu"}
        kept = {name: value for name, value in self.settings.items() if name not in rest}
        return self._replace(gpu=changes.get("gpu", self.gpu), settings=kept | rest)

    def __str__(self) -> str:
        """The whole command, quoted for a shell. A model that has no name there is MODEL."""
        words = ["memcalc", self.command, _model_word(self.model)]
        if self.gpu is not None:
            words += ("--gpu", self.gpu if isinstance(self.gpu, str) else self.gpu.id)
        for folder in self.presets:
            words += ("--presets", str(folder))
        for name, value in self.settings.items():
            if value is not False:
                words += option_words(name, _spelled(name, value))
        return shlex.join(words)


def _model_word(model: AnyModel) -> str:
    if isinstance(model, Model):
        return model.name if model.origin == "preset" else "MODEL"
    return (
        str(os.fspath(model) if isinstance(model, os.PathLike) else model)
        if isinstance(model, (str, int, os.PathLike))
        else "MODEL"
    )


def _spelled(name: str, value: Any) -> Any:
    spell = SPELLED.get(_kind(name))
    return spell(value) if spell else value


@cached(256)
def _kind(name: str) -> str:
    """How the command line reads a setting, where its field says so."""
    from memcalc.specs.serving import Serving

    for spec in (Device, Serving):
        if name in spec.model_fields:
            extra = spec.model_fields[name].json_schema_extra
            return str(extra.get("kind", "")) if isinstance(extra, dict) else ""
    return ""


def advise(invocation: Invocation, answer: Any, search: "Search") -> Advice:
    """What would make an answer fit, or surely fit where it is tight; the nearest miss where nothing does."""
    found = tuple(_suggestion(invocation, answer, tried) for tried in search.run())
    nearest = None if found else search.nearest_miss()
    return Advice(found, _suggestion(invocation, answer, nearest) if nearest else None)


def _suggestion(invocation: Invocation, before: Any, tried: "Tried") -> Suggestion:
    after, fit = tried.answer, tried.answer.fit
    changes = {name: value for name, value in tried.changes.items() if invocation.settings.get(name) != value}
    pinned = {
        solved.key: invocation.settings[solved.key] for solved in before.solved
    }  # what was typed as max is solved anew else
    return Suggestion(
        flags=flags({name: _spelled(name, value) for name, value in (pinned | changes).items()}),
        command=str(invocation.with_changes(changes)),
        changes=changes,
        costs=tuple(filter(None, (*(lever.cost(before, after) for lever in tried.levers), after.pace_beside(before)))),
        peak=after.peak,
        device=after.device_there,
        needed=fit.needed.bytes,
        needed_high=fit.needed.high,
        limit=fit.limit,
        verdict=fit.verdict,
    )
