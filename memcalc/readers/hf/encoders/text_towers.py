"""The text halves of models that embed images and text alike, on their own: CLIP, SigLIP, TIPS v2."""

from dataclasses import replace
from functools import partial
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.projection import Projection
from memcalc.frozen import NamedTuple
from memcalc.readers.hf.common import architecture, layer_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal.vision import encoder_layer
from memcalc.readers.hf.tasks import task, uncounted


class TextTower(NamedTuple):
    """What tells the towers apart."""

    positions: bool = True  # learned; else sines, which are not stored
    causal: bool = True
    projected: str = ""  # the key of the width to which every class projects its vector
    bias: bool = False  # of that projection


def text_tower(c: Config, shape: TextTower) -> Architecture:
    """Tokens and positions, layers with norms before each block, a norm, and the vector of the class that asks for one."""
    hidden, norm, kind = c.integer("hidden_size"), layer_norm(c), task(c)
    rows = c.integer("max_position_embeddings") if shape.positions else 0
    vector: Named = ()
    if shape.projected or kind.endswith("WithProjection"):
        width = c.integer(shape.projected or "projection_dim", hidden)
        vector = (("projection", Projection(hidden, width, bias=shape.bias)),)
    part = Part(
        "language",
        entry=(("embedding", Embedding(c.integer("vocab_size"), hidden, position=rows, scaled=not shape.positions)),),
        stacks=(Stack.uniform(encoder_layer(c, norm, causal=shape.causal), c.layers()),),
        exit=(("final_norm", norm), *vector),
    )
    known = kind in ("", "Model") or kind.endswith("WithProjection")
    return replace(architecture(c, (part,), tied=False), warnings=() if known else uncounted(c))


_CLIP: dict[str, Any] = {
    "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
    "max_position_embeddings": 77, "hidden_act": "quick_gelu", "projection_dim": 512,
}  # fmt: skip
_SIGLIP: dict[str, Any] = {
    "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "max_position_embeddings": 64, "hidden_act": "gelu_pytorch_tanh",
}  # fmt: skip
_PROJECTED = TextTower(causal=False, projected="projection_size", bias=True)

FAMILIES = {
    "clip_text_model": Family(partial(text_tower, shape=TextTower()), _CLIP),
    "siglip_text_model": Family(partial(text_tower, shape=_PROJECTED), _SIGLIP),
    "siglip2_text_model": Family(partial(text_tower, shape=_PROJECTED), _SIGLIP),
    "tipsv2_text_model": Family(
        partial(text_tower, shape=TextTower(positions=False, causal=False)), {**_SIGLIP, "hidden_act": "relu"}
    ),
}  # fmt: skip
