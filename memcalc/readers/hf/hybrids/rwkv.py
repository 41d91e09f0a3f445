"""RWKV 4 (transformers modeling_rwkv): no attention at all, two mixers a layer."""

from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.mixers.rwkv import ChannelMix, TimeMix
from memcalc.readers.hf.common import decoder, layer_norm
from memcalc.readers.hf.config import Config, Family


def rwkv(c: Config) -> Architecture:
    """The first layer normalises the embeddings too."""
    norm, hidden = layer_norm(c), c.integer("hidden_size")
    mixer = TimeMix(hidden, c.integer("attention_hidden_size", hidden))
    channels = ChannelMix(hidden, c.integer("intermediate_size", 4 * hidden))
    layer = Layer((("input_norm", norm), ("linear_attention", mixer), ("post_attention_norm", norm), ("mlp", channels)))
    return decoder(c, layer, norm, after_embedding=(("embedding_norm", norm),))


FAMILIES = {"rwkv": Family(rwkv, {"max_position_embeddings": 1024}, {"context_length": "max_position_embeddings"})}
