"""JetMoE: attention and feed-forward are both mixtures of experts, each with a router of its own."""

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.attention.mixture import MixtureAttention
from memcalc.blocks.ledger import Weight
from memcalc.readers.hf.common import decoder, pre_norm, rms
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.mixtures.experts import experts


def jetmoe(c: Config) -> Architecture:
    hidden, count, top_k = c.integer("hidden_size"), c.integer("num_experts"), c.integer("num_experts_per_tok")
    bias = Weight("bias", "mlp", (hidden,))
    feed_forward = experts(c, "intermediate_size", routing="jetmoe", router_extras=(bias,))
    mixer = MixtureAttention(hidden, count, top_k, c.integer("num_key_value_heads"), c.integer("head_dim"))
    norm = rms(c)
    return decoder(c, pre_norm(norm, mixer, feed_forward), norm)


FAMILIES = {
    "jetmoe": Family(
        jetmoe,
        {
            "num_key_value_heads": 16,
            "head_dim": 128,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "activation_function": "silu",
            "tie_word_embeddings": True,
            "max_position_embeddings": 4096,
        },
        {"kv_channels": "head_dim"},
    )
}
