"""--draft and --draft-method: what guesses tokens beside the model that is served."""

from collections.abc import Sequence

from memcalc.blocks.architecture import Architecture
from memcalc.errors import InputError
from memcalc.formulas.drafts import METHODS, draft_method
from memcalc.readers.drafts import Draft, head_method, named_draft, read_head
from memcalc.readers.models import read_config_values
from memcalc.sizing.subjects import AnyModel, as_model
from memcalc.specs.spec import SpecError
from memcalc.specs.words import meant

MODEL = METHODS["model"]


def as_draft(model: Architecture, draft: AnyModel | None, method: str | None, presets: Sequence[str]) -> Draft | None:
    """A method by its name, a model, or the config of a head; None where nothing guesses."""
    if method is not None:
        named = draft_method(method)
        method = named.name if named else str(meant("draft_method", method, tuple(METHODS)))
        if method not in METHODS:
            raise SpecError(f"{method!r:.40} is not {', '.join(METHODS)}", "draft_method")
    if draft is None:
        if method is None:
            return None
        draft = method
        if method == MODEL.name:
            raise SpecError("a draft model needs its name: give draft", "draft_method")
    if not isinstance(draft, str):
        return _model(draft, method, presets)
    if found := named_draft(draft, model):
        if method not in (None, found.method.name):
            raise SpecError(f"says {method} beside draft {draft!r:.40}; give one", "draft_method")
        return found
    values = _config(draft)
    kind = method or head_method(values)
    if values and kind and METHODS[kind].head and kind != "mtp":
        return read_head(values, kind, model, "--draft")
    if kind and kind != MODEL.name:
        raise SpecError(f"a draft of method {kind} is named by its method, or by its config.json, not {draft!r:.40}", "draft")
    return _model(draft, method, presets)


def _model(draft: AnyModel, method: str | None, presets: Sequence[str]) -> Draft:
    if method not in (None, MODEL.name):
        raise SpecError(f"{method} is no model of its own; name a config.json with draft", "draft_method")
    found = as_model(draft, presets)
    if found.architecture is None:
        from memcalc.errors import Unsupported

        raise Unsupported(f"--draft: {found.name} says nothing about keys and values; give a preset or a config.json")
    return Draft(MODEL, found.architecture)


def _config(draft: str) -> dict[str, object]:
    """The values of a config.json that the word names; none where it names a preset or weights."""
    if not (draft.endswith(".json") or "/" in draft or "\\" in draft):
        return {}
    try:
        return dict(read_config_values(draft))
    except InputError:
        return {}
