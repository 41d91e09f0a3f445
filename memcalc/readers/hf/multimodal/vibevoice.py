"""VibeVoice: a language model whose hidden states a small diffusion head turns into sound, and encoders to read it back."""

from collections.abc import Mapping
from typing import Any

from memcalc.blocks.architecture import Architecture, Layer, Named, Part, Stack
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal import sound_encoders
from memcalc.readers.hf.multimodal.nested import Language, joined, read_language, text_type


def vibevoice(c: Config) -> Architecture:
    """The acoustic codec encodes and decodes, the semantic one only encodes (modeling_vibevoice.py). The inner config decides
    about tying, and the sizes that the diffusion head shares with others are theirs, whatever its own config says.
    """
    tied = c.sub("text_config", {}).flag("tie_word_embeddings", False)
    language = read_language(c, text_type(c, "qwen2"), tied=tied)
    codec = c.sub("audio_config", sound_encoders.VIBEVOICE)
    semantic = c.sub("semantic_model_config", {**sound_encoders.VIBEVOICE, "hidden_size": 128})
    scales = Plain((Weight("scale", "other", ()), Weight("shift", "other", ())))
    projector = Part("projector", entry=(*_connector("acoustic", codec, language), *_connector("semantic", semantic, language),
                                         ("latents", scales)))  # fmt: skip
    parts = (
        sound_encoders.vibevoice(codec, "acoustic"),
        sound_encoders.vibevoice(codec, "acoustic_decoder", decodes=True),
        sound_encoders.vibevoice(semantic, "semantic"),
        projector,
        _diffusion(c.sub("diffusion_head_config", _HEAD), language.hidden, codec.integer("hidden_size")),
    )
    return joined(c, language, parts)


def _connector(name: str, encoder: Config, language: Language) -> Named:
    return (
        (f"{name}_up", Projection(encoder.integer("hidden_size"), language.hidden, bias=True)),
        (f"{name}_norm", Norm(language.hidden)),
        (f"{name}_down", Projection(language.hidden, language.hidden, bias=True)),
    )


def _diffusion(c: Config, hidden: int, latent: int) -> Part:
    """Gated feed-forwards whose norms' scale, shift and gate are made of the step and the language model's state."""
    feed_forward = MLP(hidden, c.integer("intermediate_size"), bias=c.flag("mlp_bias"), activation=c.text("hidden_act"))
    modulation = Projection(hidden, 3 * hidden, role="mlp")
    layer = Layer((("norm", Norm(hidden)), ("mlp", feed_forward), ("modulation", modulation)))
    entry: Named = (
        ("noise", Projection(latent, hidden)),
        ("condition", Projection(hidden, hidden)),
        ("step_up", Projection(c.integer("frequency_embedding_size"), hidden, activation=c.text("hidden_act"))),
        ("step_down", Projection(hidden, hidden)),
    )
    last: Named = (("modulation", Projection(hidden, 2 * hidden)), ("output", Projection(hidden, latent)))
    return Part("diffusion", entry, (Stack.uniform(layer, c.layers()),), last)


_HEAD: Mapping[str, Any] = {
    "num_hidden_layers": 4, "intermediate_size": 4608, "hidden_act": "silu",
    "frequency_embedding_size": 256, "mlp_bias": False,
}  # fmt: skip

FAMILIES = {"vibevoice": Family(vibevoice, {})}
