"""Vision-language models that give a vector of each token and patch, to be compared late: ColPali, ColQwen 2, ColModernVBERT.

Structures follow transformers src/transformers/models/{colpali,colqwen2,colmodernvbert}/.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture, Named
from memcalc.blocks.projection import Projection
from memcalc.errors import Unsupported
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.families import MODULES, family

_DEFAULTS: Mapping[str, Any] = {"embedding_dim": 128}


def retriever(kind: str, c: Config) -> Architecture:
    """The model under `vlm_config`; the class puts its vectors where the head was."""
    inner = c.sub("vlm_config", {}).text("model_type", kind)
    if inner not in MODULES or inner in FAMILIES:
        raise Unsupported(f"{c.place}: the model {inner!r:.60} inside vlm_config is not modelled")
    reader = family(inner)
    model = reader.read(c.sub("vlm_config", reader.defaults).reread(architectures=["Model"]))
    if model.predicted:  # a decoder, read with its head
        return model
    (first, *others), size = model.parts, c.integer("embedding_dim")
    end: Named = (("vector", Projection(model.hidden, size, bias=True)),)
    return replace(model, parts=(replace(first, exit=(*first.exit, *end)), *others))


FAMILIES = {
    name: Family(partial(retriever, kind), _DEFAULTS)
    for name, kind in (("colpali", "paligemma"), ("colqwen2", "qwen2_vl"), ("colmodernvbert", "modernvbert"))
}
