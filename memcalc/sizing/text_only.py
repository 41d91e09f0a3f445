"""--language-model-only: a model without its towers for images and sound, as engines then load it."""

from dataclasses import replace

from memcalc.blocks.stored import StoredTensors
from memcalc.estimates.compute.flops import TEXT_PARTS
from memcalc.readers.models import Model
from memcalc.specs.spec import SpecError


def text_only(model: Model, files: StoredTensors | None) -> tuple[Model, StoredTensors | None]:
    """The model, and its files, without towers; refused where there are none."""
    whole = model.architecture
    kept = tuple(part for part in whole.parts if part.name in TEXT_PARTS) if whole else ()
    if whole is None or not kept or len(kept) == len(whole.parts):
        raise SpecError(f"{model.name} has no towers for images or sound that could be left out", "language_model_only")
    text = replace(whole, parts=kept, held=0)
    return model._replace(architecture=text, parameters=text.parameters), files.decoder if files else None
