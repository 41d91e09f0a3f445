"""CANINE: characters, hashed into tables, become fewer positions for the deep encoder and are spread out again."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Part, Stack
from memcalc.blocks.convolution import Convolution
from memcalc.readers.hf.common import layer_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.encoders.heads import headless, under
from memcalc.readers.hf.encoders.layers import bert_but, bert_mlp, body, encoder_layer, self_attention, tables


def canine(c: Config) -> Architecture:
    """A layer over characters in windows, a strided convolution, the deep layers, a convolution over both and one more layer
    (modeling_canine.py); every class keeps the pooler, which only sequences read.
    """
    hidden, hashes, buckets = (c.integer(key) for key in ("hidden_size", "num_hash_functions", "num_hash_buckets"))
    if hidden % hashes:
        raise c.error("hidden_size", f"({hidden}) is not a multiple of num_hash_functions ({hashes})")
    norm, stride = layer_norm(c), c.integer("local_transformer_stride")
    attention = self_attention(c)
    local = encoder_layer(c, replace(attention, mask=attention.mask._replace(window=stride, chunked=True)), bert_mlp(c))
    shards = ((f"hash {i}", buckets, hidden // hashes) for i in range(hashes))
    table = tables(*shards, ("positions", buckets, hidden), ("segments", c.integer("type_vocab_size"), hidden))
    down = Convolution(hidden, hidden, (c.integer("downsampling_rate"),), bias=True)
    up = Convolution(2 * hidden, hidden, (c.integer("upsampling_kernel_size"),), (1,), bias=True)
    first = Part(
        "characters", (("embedding", table), ("embedding_norm", norm)), (Stack.uniform(local, 1),),
        (("downsampling", down), ("downsampling_norm", norm)),
    )  # fmt: skip
    deep = body(c, entry=())
    last = Part("upsampling", (("upsampling", up), ("upsampling_norm", norm)), (Stack.uniform(local, 1),))
    model = under(c, last, headless(c, "SequenceClassification", "MultipleChoice", kept=True))
    return replace(model, parts=(first, deep, *model.parts))


FAMILIES = {
    "canine": Family(
        canine,
        bert_but(
            vocab_size=1114112, max_position_embeddings=16384, type_vocab_size=16, downsampling_rate=4,
            upsampling_kernel_size=4, num_hash_functions=8, num_hash_buckets=16384, local_transformer_stride=128,
        ),
    )
}  # fmt: skip
