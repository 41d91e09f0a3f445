"""wav2vec 2 and its kin: convolutions over the waveform, then layers that see both ways."""

from dataclasses import replace
from typing import Any

from memcalc.blocks.architecture import Architecture, Named, Part, Stack
from memcalc.blocks.dropout import Dropout
from memcalc.blocks.ledger import Weight
from memcalc.blocks.norm import Norm
from memcalc.blocks.projection import Projection
from memcalc.blocks.task_head import MeanOfTokens
from memcalc.blocks.unread import Unread
from memcalc.blocks.values import revised
from memcalc.readers.hf.common import architecture, layer_norm, norm_of_sum, pre_norm
from memcalc.readers.hf.config import Config, Family
from memcalc.readers.hf.multimodal.sound_encoders import convolved_positions, waveform
from memcalc.readers.hf.multimodal.vision import full_attention, plain_mlp
from memcalc.readers.hf.tasks import classifier, label_count, task


def wav2vec2(c: Config) -> Architecture:
    """`do_stable_layer_norm`: norms before each block, not after each sum. Its convolution of positions is stored as a weight
    and its norm; SpecAugment's vector is there where a mask is likely at all (modeling_wav2vec2.py).
    """
    for key in ("add_adapter", "use_weighted_layer_sum", "conv_pos_batch_norm"):
        if c.flag(key, False):
            raise c.error(key, "must be false: its layers are not modelled")
    if c.has("adapter_attn_dim"):
        raise c.error("adapter_attn_dim", "must be null: adapters in each layer are not modelled")
    kind = c.text("feat_extract_norm")
    if kind not in ("group", "layer"):
        raise c.error("feat_extract_norm", f"must be group or layer, not {kind!r:.60}")
    hidden, norm = c.integer("hidden_size"), layer_norm(c)
    front, width = waveform(c, normed=kind == "layer")
    if c.flag("feat_proj_layer_norm", True):
        front += (("features_norm", Norm(width, "layer")),)
    mixer = full_attention(c, output_dropout=c.number("hidden_dropout"), scores="as computed")
    stable, dropped = c.flag("do_stable_layer_norm"), ("dropout", Dropout(c.number("hidden_dropout")))
    feed_forward = revised(plain_mlp(c, c.number("hidden_dropout")), inner_dropout=c.number("activation_dropout"))
    layer = (pre_norm if stable else norm_of_sum)(norm, mixer, feed_forward)
    normed: Named = (dropped,) if stable else (("entry_norm", norm), dropped)
    last: Named = (("final_norm", norm),) if stable else ()
    part = Part(
        "encoder",
        entry=(
            *front,
            ("features", Projection(width, hidden, bias=True)),
            *positioned(c),
            *normed,
        ),
        stacks=(Stack.uniform(replace(layer, source=True), c.layers()),),
        exit=(*last, *_head(c, hidden)),
    )
    return architecture(c, (part,), tied=False, vocabulary=0)


def positioned(c: Config) -> Named:
    """What frames get besides: SpecAugment's vector, and a convolution that tells where each stands."""
    masked = c.number("mask_time_prob") > 0 or c.number("mask_feature_prob") > 0
    vector = Unread((Weight("vector", "other", (c.integer("hidden_size"),)),), seen=True)
    mask: Named = (("mask", vector),) if masked else ()
    return (*mask, ("positions", convolved_positions(c, normed=True)))


def _head(c: Config, hidden: int) -> Named:
    """The blocks of the class that the config names."""
    kind = task(c)
    if kind == "CTC":
        return (("head", Projection(hidden, c.integer("vocab_size"), bias=True, role="head")),)
    if kind == "SequenceClassification":
        width = c.integer("classifier_proj_size")
        projector = Projection(hidden, width, bias=True, role="head")
        return (("projector", projector), ("pooler", MeanOfTokens(width)), ("classifier", classifier(width, label_count(c))))
    if kind == "AudioFrameClassification":
        return (("classifier", classifier(hidden, label_count(c))),)
    if kind not in ("", "Model"):
        raise c.error("architectures", f"names {c.entries('architectures')[0]!r:.60}, whose head is not modelled")
    return ()


_WAV2VEC2: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "hidden_dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1,
    "feat_extract_norm": "group",
    "conv_dim": [512] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_bias": False, "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16, "do_stable_layer_norm": False, "mask_time_prob": 0.05, "mask_feature_prob": 0.0,
    "classifier_proj_size": 256,
}  # fmt: skip

FAMILIES = {"wav2vec2": Family(wav2vec2, _WAV2VEC2), "hubert": Family(wav2vec2, _WAV2VEC2)}
