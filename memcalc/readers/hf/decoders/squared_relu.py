"""Dense decoders with squared ReLU: Jais 2, NanoChat, BitNet. Arcee and Nemotron are with the families that they vary."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.head import Head
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import biased_attention, decoder, layer_norm, mlp, optional_number, pre_norm, rms
from memcalc.readers.hf.config import Config, Family


def jais2(c: Config) -> Architecture:
    """LayerNorm, biases throughout, no gate."""
    norm = layer_norm(c)
    return decoder(c, pre_norm(norm, biased_attention(c), mlp(c, gated=False, bias=c.flag("mlp_bias"))), norm)


def nanochat(c: Config) -> Architecture:
    """Norms without scales, also of queries and keys after the rotation and of the embedding; no gate."""
    norm = rms(c, affine=False)
    block = biased_attention(c)
    head_norm = replace(norm, size=block.head_dim)
    block = revised(block, query_norm=head_norm, key_norm=head_norm, norms_after_rotary=True)
    tied = c.flag("tie_word_embeddings", False)
    softcap = optional_number(c, "final_logit_softcapping")
    return decoder(
        c,
        pre_norm(norm, block, mlp(c, gated=False)),
        norm,
        tied=tied,
        after_embedding=(("embedding_norm", norm),),
        head=Head(c.integer("vocab_size"), c.integer("hidden_size"), tied=tied, softcap=softcap),
    )


def bitnet(c: Config) -> Architecture:
    """A llama with a norm before the last matrix of each block; ternary weights are its quantization_config's."""
    norm, block = rms(c), biased_attention(c)
    if block.output_size != block.hidden:  # the library's norm of the result is as wide as the model
        raise c.error("head_dim", f"({block.head_dim}) times the heads ({block.heads}) must be the hidden size")
    feed_forward = mlp(c, norm=rms(c, size=c.integer("intermediate_size")))
    return decoder(c, pre_norm(norm, revised(block, result_norm=norm), feed_forward), norm)


FAMILIES = {
    "jais2": Family(jais2, {"hidden_act": "relu2", "attention_bias": True, "mlp_bias": True, "max_position_embeddings": 8192}),
    "nanochat": Family(nanochat, {"hidden_act": "relu2", "final_logit_softcapping": 15.0, "max_position_embeddings": 2048}),
    "bitnet": Family(
        bitnet,
        {"num_key_value_heads": 5, "hidden_act": "relu2", "rms_norm_eps": 1e-5, "max_position_embeddings": 2048},
    ),
}
