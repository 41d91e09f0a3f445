"""OpenAI's privacy filter: a gpt-oss that sees both ways and labels tokens."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.attention.core import WIDE_SINKS
from memcalc.blocks.task_head import TaskHead
from memcalc.readers.hf.common import WIDE, architecture, biased_attention, decoder_part, pre_norm, rms
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.mixtures.experts import experts
from memcalc.readers.hf.tasks import label_count, task, uncounted


def privacy_filter(c: Config) -> Architecture:
    """`sliding_window` tokens on either side of each; experts as in gpt-oss (modeling_openai_privacy_filter.py)."""
    norm, kind = rms(c, kind=WIDE), task(c)
    mixer = biased_attention(
        c, causal=False, window=c.integer("sliding_window") + 1, sinks=True, rotary_tables="halves", scores=WIDE_SINKS
    )
    feed_forward = experts(
        c,
        "intermediate_size",
        bias=True,
        router_bias=True,
        transposed=True,
        routing="softmax-chosen-fp32",
        clamped=True,
        interleaved=False,
        in_turn=True,
    )
    part = decoder_part(c, pre_norm(norm, mixer, feed_forward), norm, tied=False)
    scores = TaskHead(c.integer("hidden_size"), label_count(c, LABELS), dropout=c.number("classifier_dropout"))
    head = () if kind == "Model" else (("classifier", scores),)
    model = architecture(c, (replace(part, exit=(part.exit[0], *head)),), tied=False)
    return replace(model, warnings=() if kind in ("", "Model", "TokenClassification") else uncounted(c))


LABELS = 33  # eight kinds of private data, in four positions each, and none

FAMILIES = {
    "openai_privacy_filter": Family(
        privacy_filter,
        {
            "vocab_size": 200064, "hidden_size": 640, "intermediate_size": 640, "num_hidden_layers": 8,
            "num_attention_heads": 14, "num_key_value_heads": 2, "head_dim": 64, "sliding_window": 128,
            "attention_bias": True, "rms_norm_eps": 1e-5, "num_local_experts": 128, "num_experts_per_tok": 4,
            "max_position_embeddings": 131072, "classifier_dropout": 0.0,
        },
    )
}  # fmt: skip
