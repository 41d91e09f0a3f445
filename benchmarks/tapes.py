"""Small models of families whose layers are wired in their own way, traced: `python benchmarks/tapes.py [NAME …]`.

Each is a preset made small, in several settings; PyTorch counts a step of transformers' own modules under fake tensors
(memcalc.trace). The figures are kept in tests/reference/tapes.json, which the tests compare memcalc's tapes with.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memcalc.readers.models import read_config_values
from memcalc.specs.training import Training

FILE = Path(__file__).parents[1] / "tests" / "reference" / "tapes.json"
MOMENTS = ("steady", "after_forward", "peak_forward_backward", "peak_optimizer_step")
BF16, AMP, FP32, EAGER, AGAIN = (
    {"precision": "bf16"}, {"precision": "bf16-amp"}, {"precision": "fp32", "attention": "eager"},
    {"precision": "bf16", "attention": "eager"}, {"precision": "bf16", "recompute": "full"},
)  # fmt: skip
WRITTEN_OUT = (EAGER, {**AMP, "attention": "eager"}, FP32, {**AGAIN, "attention": "eager"})  # no other kernel is known
BATCH = {"micro_batch": 2, "seq_len": 512}

_BERT = {"num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 512, "num_attention_heads": 8,
         "pad_token_id": 0}  # fmt: skip
_LLAMA = {**_BERT, "intermediate_size": 1024, "num_key_value_heads": 2, "head_dim": 64, "bos_token_id": 1, "eos_token_id": 2}
_SOUND = {"model_type": "wav2vec2", "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
          "intermediate_size": 1024, "conv_dim": [128] * 7, "vocab_size": 32, "layerdrop": 0.0, "mask_time_prob": 0.0,
          "architectures": ["Wav2Vec2ForSequenceClassification"]}  # fmt: skip

# name → (preset or "" for none, the config inside it that is the language model's, what is smaller, settings)
SMALL: dict[str, tuple[str, str, dict[str, Any], tuple[dict[str, Any], ...]]] = {
    "gemma4 experts": (
        "gemma-4-26b-a4b", "text_config",
        {"num_hidden_layers": 4, "layer_types": ["sliding_attention"] * 2 + ["full_attention"] * 2, "hidden_size": 512,
         "vocab_size": 512, "num_experts": 8, "vocab_size_per_layer_input": 512},
        (BF16, AMP, EAGER, AGAIN),
    ),
    "gated attention": (
        "laguna-xs.2", "",
        {"num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"], "mlp_layer_types": ["dense", "sparse"],
         "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 512, "num_experts": 8},
        (BF16, AGAIN),
    ),
    "gated attention, by head": (
        "lfm3-1.7b", "",
        {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention", "sliding_attention", "conv"], "pad_token_id": 0,
         "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 512},
        (BF16, FP32),
    ),
    "cross-attention to images": (
        "llama-3.2-11b-vision", "",
        {"text_config": {"num_hidden_layers": 4, "cross_attention_layers": [1], "hidden_size": 512, "intermediate_size": 1024,
                         "vocab_size": 512, "pad_token_id": 0},
         "vision_config": {"num_hidden_layers": 1, "num_global_layers": 1, "hidden_size": 64, "intermediate_size": 64,
                           "attention_heads": 2, "vision_output_dim": 128, "intermediate_layers_indices": [0],
                           "image_size": 28}},
        (BF16, AGAIN),
    ),
    "images alone": (
        "vit-base-patch16-224", "", {"num_hidden_layers": 3},
        tuple({**setting, "micro_batch": 16, "seq_len": 197} for setting in (BF16, AMP, AGAIN)),
    ),
    "alternating updates": (
        "gemma-3n-e2b", "text_config",
        {"num_hidden_layers": 5, "num_kv_shared_layers": 2, "hidden_size": 512, "intermediate_size": [1024] * 5,
         "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"],
         "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0, 0.0], "vocab_size": 512, "vocab_size_per_layer_input": 512,
         "hidden_size_per_layer_input": 64, "num_attention_heads": 4, "head_dim": 64, "pad_token_id": 0},
        (BF16, AMP, EAGER, AGAIN),
    ),
    "experts one after the other": (
        "dbrx", "",
        {"n_layers": 3, "d_model": 512, "n_heads": 8, "vocab_size": 512, "attn_config": {"rope_theta": 10000.0, "clip_qkv": 8},
         "ffn_config": {"ffn_hidden_size": 1024, "hidden_size": 512}},
        (BF16, AMP, EAGER, AGAIN),
    ),
    "delta rule by channel": (
        "kimi-linear-48b-a3b", "",
        {"num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 512, "pad_token_id": 0,
         "num_experts": 8, "num_experts_per_token": 2, "moe_intermediate_size": 256, "num_attention_heads": 4,
         "num_key_value_heads": 4, "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64,
         "linear_attn_config": {"num_heads": 4, "head_dim": 64, "full_attn_layers": [3], "kda_layers": [1, 2]}},
        (BF16, AMP, FP32, AGAIN),
    ),
    "delta rule, queries apart": (
        "olmo-hybrid-7b", "",
        {"num_hidden_layers": 4, "layer_types": ["linear_attention"] * 2 + ["full_attention", "linear_attention"],
         "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 512, "pad_token_id": 0, "num_attention_heads": 8,
         "num_key_value_heads": 8, "linear_num_key_heads": 4, "linear_num_value_heads": 4, "linear_key_head_dim": 64,
         "linear_value_head_dim": 128},
        (BF16, {**AMP, "seq_len": 2048}, FP32, AGAIN),
    ),
    "delta rule by channel, bounded": (
        "ling-3.0-flash", "",
        {"num_hidden_layers": 3, "layer_types": ["linear_attention"] * 2 + ["full_attention"], "hidden_size": 512,
         "mlp_layer_types": ["dense", "sparse", "sparse"], "intermediate_size": 1024, "vocab_size": 512, "pad_token_id": 0,
         "num_experts": 8, "num_expert_group": 2, "topk_group": 1, "num_experts_per_token": 2, "moe_intermediate_size": 256,
         "num_attention_heads": 4, "num_key_value_heads": 4, "kv_lora_rank": 128, "qk_nope_head_dim": 64,
         "qk_rope_head_dim": 32, "qk_head_dim": 96, "v_head_dim": 64, "head_dim": 32, "linear_num_heads": 4,
         "linear_head_dim": 64},
        (BF16, AMP, FP32, AGAIN),
    ),
    "gated latents": (
        "dots3-note", "text_config",
        {"num_hidden_layers": 3, "layer_types": ["indexed_attention", "sliding_attention", "indexed_attention"],
         "hidden_size": 512, "mlp_layer_types": ["dense", "sparse", "sparse"], "intermediate_size": 1024, "vocab_size": 512,
         "pad_token_id": 0, "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256,
         "shared_experts_intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4, "kv_lora_rank": 128,
         "q_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64, "head_dim": 96,
         "index_n_heads": 2, "index_head_dim": 64, "index_topk": 64, "per_layer_config": None},
        (BF16, AMP, FP32, AGAIN),
    ),
    "weights of all layers shared": (
        "albert-base-v2", "",
        {"num_hidden_layers": 6, "hidden_size": 512, "embedding_size": 128, "intermediate_size": 2048, "vocab_size": 512,
         "num_attention_heads": 8, "pad_token_id": 0, "architectures": ["AlbertForMaskedLM"]},
        (BF16, EAGER, FP32),
    ),
    "position buckets": (
        "mpnet-base", "",
        {"num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 512, "num_attention_heads": 8,
         "architectures": ["MPNetForMaskedLM"]},
        WRITTEN_OUT[:3],  # its class knows no recomputation
    ),
    "rotary encoder": (
        "roformer-chinese-base", "",
        {"num_hidden_layers": 3, "hidden_size": 512, "embedding_size": 512, "intermediate_size": 2048, "vocab_size": 512,
         "num_attention_heads": 8, "pad_token_id": 0, "architectures": ["RoFormerForMaskedLM"]},
        WRITTEN_OUT,
    ),
    "disentangled attention": (
        "deberta-v3-base", "",
        {"num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 512, "num_attention_heads": 8,
         "pad_token_id": 0, "architectures": ["DebertaV2ForMaskedLM"]},
        WRITTEN_OUT,
    ),
    "disentangled attention, apart": (
        "deberta-v2-xlarge", "",
        {"num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 512, "num_attention_heads": 8,
         "pad_token_id": 0, "pooler_hidden_size": 512, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
         "position_buckets": 256, "norm_rel_ebd": "layer_norm", "position_biased_input": False, "conv_kernel_size": 3,
         "conv_act": "gelu", "architectures": ["DebertaV2ForMaskedLM"]},
        WRITTEN_OUT,
    ),
    "disentangled attention, absent": (
        "deberta-v2-xlarge", "",
        {"num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 512, "num_attention_heads": 8,
         "pad_token_id": 0, "pooler_hidden_size": 512, "architectures": ["DebertaV2ForMaskedLM"]},
        WRITTEN_OUT,
    ),
    "disentangled attention, every distance": (
        "deberta-v3-base", "",
        {"model_type": "deberta", "num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 512,
         "num_attention_heads": 8, "pad_token_id": 0, "norm_rel_ebd": None, "position_buckets": None, "share_att_key": None,
         "architectures": ["DebertaForMaskedLM"]},
        WRITTEN_OUT[1:3],  # its biases are fp32 whatever the type
    ),
    "shifted scores": (
        "xlnet-large-cased", "",
        {"d_model": 512, "vocab_size": 512, "d_inner": 2048, "n_head": 8, "n_layer": 3, "pad_token_id": 0},
        WRITTEN_OUT[1:3],  # its matrices are fp32 whatever the type; its class knows no recomputation
    ),
    "convolutions beside attention": (
        "conv-bert-base", "",
        {"num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 512, "num_attention_heads": 8,
         "embedding_size": 128, "pad_token_id": 0, "architectures": ["ConvBertForMaskedLM"]},
        WRITTEN_OUT,
    ),
    "Fourier transform": (
        "fnet-base", "",
        {"num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 512, "pad_token_id": 0,
         "architectures": ["FNetForMaskedLM"]},
        (WRITTEN_OUT[1], FP32, {**FP32, "recompute": "full"}),  # transforms take no bf16
    ),
    "grouped matrices": (
        "squeezebert-uncased", "",
        {"num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 512, "num_attention_heads": 8,
         "embedding_size": 512, "pad_token_id": 0, "architectures": ["SqueezeBertForMaskedLM"]},
        WRITTEN_OUT[:3],  # its class knows no recomputation
    ),
    "sound as it is": (
        "moonshine-tiny", "",
        {"encoder_num_hidden_layers": 3, "decoder_num_hidden_layers": 3, "hidden_size": 256, "intermediate_size": 1024,
         "vocab_size": 512, "pad_token_id": 0, "decoder_start_token_id": 1},
        (BF16, AMP, FP32, {**AGAIN, "micro_batch": 1}),
    ),
    "blocks of queries": (
        "bigbird-roberta-base", "",
        {"num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 512, "num_attention_heads": 8,
         "pad_token_id": 0, "architectures": ["BigBirdForMaskedLM"]},
        tuple({**setting, "seq_len": length} for setting in WRITTEN_OUT for length in (512, 1024)),
    ),
    "blocks of queries, encoder": (
        "bigbird-pegasus-large", "",
        {"d_model": 512, "vocab_size": 512, "decoder_layers": 2, "encoder_layers": 3, "decoder_ffn_dim": 2048,
         "encoder_ffn_dim": 2048, "decoder_attention_heads": 8, "encoder_attention_heads": 8, "pad_token_id": 0,
         "decoder_start_token_id": 1},
        # autocast ends in an error: probabilities are fp32, what they are laid out in is not
        tuple({**setting, "seq_len": 1024} for setting in WRITTEN_OUT if setting["precision"] != "bf16-amp"),
    ),
    "blocks and global tokens": (
        "pegasus-x-large", "",
        {"d_model": 512, "vocab_size": 512, "decoder_layers": 2, "encoder_layers": 4, "decoder_ffn_dim": 2048,
         "encoder_ffn_dim": 2048, "decoder_attention_heads": 8, "encoder_attention_heads": 8, "pad_token_id": 0,
         "decoder_start_token_id": 1},
        tuple({**setting, "seq_len": 1024} for setting in WRITTEN_OUT),
    ),
    "mixed with the first layer": (
        "neomme-260m", "",
        {"num_hidden_layers": 5, "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 512, "num_attention_heads": 8,
         "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"],
         "per_layer_config": None, "pad_token_id": 0, "patch_size": 4, "architectures": ["NeoMMEForMaskedLM"]},
        tuple({**setting, "seq_len": 1536} for setting in (BF16, AMP, EAGER)),
    ),
    "hyper-connections": (
        "glm-5.3-flash", "",
        {"text_config": {
            "num_hidden_layers": 3, "layer_types": ["linear_attention", "indexed_attention", "linear_attention"],
            "indexer_types": ["full"] * 3, "hidden_size": 512, "mlp_layer_types": ["dense", "sparse", "sparse"],
            "intermediate_size": 1024, "vocab_size": 512, "pad_token_id": 0, "n_routed_experts": 8, "num_experts_per_tok": 2,
            "moe_intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4, "kv_lora_rank": 128,
            "q_lora_rank": 256, "qk_nope_head_dim": 64, "qk_head_dim": 64, "v_head_dim": 64, "index_n_heads": 2,
            "index_head_dim": 64, "index_topk": 64, "linear_num_heads": 4, "linear_head_dim": 64},
         "vision_config": {"hidden_size": 64, "intermediate_size": 64, "depth": 1, "num_heads": 2, "out_hidden_size": 512,
                           "projection_intermediate_size": 64}},
        (BF16, AMP, FP32, AGAIN),
    ),
    "masks of every sequence": (
        "smollm2-135m", "", {"num_hidden_layers": 3, "vocab_size": 512}, ({**AGAIN, "attention": "eager"},),
    ),
    "blocks of keys": (
        "minimax-m3", "",
        {"text_config": {
            "num_hidden_layers": 4, "hidden_size": 512, "dense_intermediate_size": 1024, "intermediate_size": 256,
            "shared_intermediate_size": 256, "vocab_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2,
            "head_dim": 64, "rotary_dim": 32, "num_local_experts": 8, "num_experts_per_tok": 2, "moe_layer_freq": [0, 0, 1, 1],
            "sparse_attention_config": {"sparse_attention_freq": [0, 0, 1, 1], "sparse_num_index_heads": 2,
                                        "sparse_index_dim": 64, "sparse_topk_blocks": 2}},
         "projector_hidden_size": 64,
         "vision_config": {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2,
                           "image_size": 28, "projection_dim": 64, "vocab_size": 512}},
        (BF16, AMP, EAGER, AGAIN),
    ),
    "scaled by sinks": (
        "granite-swash-2b", "",
        {"num_hidden_layers": 3, "layer_types": ["sliding_attention"] * 3, "hidden_size": 512,
         "intermediate_size": 1024, "vocab_size": 512, "num_attention_heads": 16, "num_key_value_heads": 4, "pad_token_id": 0},
        WRITTEN_OUT,
    ),
    "residuals scaled by depth": (
        "beam-1.0-501b-a23b", "",
        {"num_hidden_layers": 4, "layer_types": ["sliding_attention"] * 3 + ["full_attention"], "hidden_size": 512,
         "mlp_layer_types": ["dense", "dense", "sparse", "sparse"], "intermediate_size": 1024, "vocab_size": 512,
         "moe_intermediate_size": 256, "num_experts": 32, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
         "rope_parameters": None, "pad_token_id": 0},
        (BF16, AMP, EAGER, AGAIN),
    ),
    "compressed entries": (
        "deepseek-v4-flash", "",
        {"num_hidden_layers": 4, "compress_ratios": [0, 4, 128, 4], "num_hash_layers": 1, "hidden_size": 512, "vocab_size": 512,
         "num_attention_heads": 8, "head_dim": 128, "q_lora_rank": 256, "o_groups": 4, "o_lora_rank": 128, "index_n_heads": 4,
         "index_head_dim": 64, "index_topk": 64, "n_routed_experts": 64, "num_experts_per_tok": 2, "moe_intermediate_size": 256,
         "qk_rope_head_dim": 32, "pad_token_id": 0},
        WRITTEN_OUT,
    ),
    "sinks beside scores": (
        "privacy-filter", "",
        {"num_hidden_layers": 3, "hidden_size": 512, "intermediate_size": 256, "vocab_size": 512, "num_attention_heads": 8,
         "num_key_value_heads": 2, "num_local_experts": 8, "num_experts_per_tok": 2, "pad_token_id": 0,
         "architectures": ["OpenAIPrivacyFilterForTokenClassification"]},
        WRITTEN_OUT,
    ),
    "learned frequencies": (
        "mistral-large-4-1t-a52b", "",
        {"text_config": {
            "num_hidden_layers": 4, "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 512, "pad_token_id": 0,
            "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256, "num_attention_heads": 4,
            "num_key_value_heads": 4, "kv_lora_rank": 128, "qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 64,
            "index_n_heads": 2, "index_head_dim": 64, "index_topk": 64, "layer_types": None,
            "indexer_types": ["full", "full", "shared", "full"], "kv_source_layers": [0, 1, 2, 3],
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"], "no_rope_layers": [1, 1, 1, 0], "qk_head_dim": 64},
         "vision_config": {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2,
                           "image_size": 28, "head_dim": 32}},
        (BF16, AMP, FP32, AGAIN),
    ),
    "residual gates": (
        "muse-spark-open-816b-a42b", "",
        {"text_config": {
            "num_hidden_layers": 4, "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 512, "pad_token_id": 0,
            "num_local_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256, "moe_hidden_size": 256,
            "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "mlp_layer_types": ["dense"] + ["sparse"] * 3,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
         "out_hidden_size": 256, "projector_hidden_size": 64,
         "vision_config": {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2,
                           "layer_types": ["full_attention"]},
         "audio_config": {"patch_sizes": [16], "hidden_sizes": [64], "depths": [1], "num_hidden_layers": 1,
                          "out_hidden_size": 512}},
        (BF16, AMP, EAGER, AGAIN),
    ),
    "convolved keys": (
        "inkling", "",
        {"num_hidden_layers": 4, "layer_types": ["hybrid_sliding", "hybrid", "hybrid_sliding", "hybrid"], "hidden_size": 512,
         "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"], "intermediate_size": 1024, "moe_intermediate_size": 256,
         "vocab_size": 512, "n_routed_experts": 8, "num_experts_per_tok": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
         "head_dim": 64, "swa_head_dim": 64, "swa_num_attention_heads": 8, "swa_num_key_value_heads": 4, "pad_token_id": 0},
        (BF16, AMP, FP32, EAGER, AGAIN),
    ),
    "sound by convolutions": (
        "", "", _SOUND, tuple({**setting, "seq_len": 128} for setting in (BF16, AMP, FP32, EAGER, AGAIN)),
    ),
    "sound by convolutions, each normed": (
        "", "", {**_SOUND, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
        tuple({**setting, "seq_len": 128} for setting in (BF16, AMP, FP32, AGAIN)),
    ),
    "boxes of words": (
        "", "", {**_BERT, "model_type": "layoutlm", "architectures": ["LayoutLMForMaskedLM"]}, (BF16, *WRITTEN_OUT, AGAIN),
    ),
    "entities unread": (
        "", "", {**_BERT, "model_type": "luke", "entity_vocab_size": 512, "entity_emb_size": 64,
                 "architectures": ["LukeForMaskedLM"]}, WRITTEN_OUT,
    ),
    "decoder without its encoder": (
        "", "", {"model_type": "mbart", "d_model": 512, "decoder_layers": 3, "decoder_ffn_dim": 2048, "vocab_size": 512,
                 "decoder_attention_heads": 8, "encoder_layers": 3, "encoder_ffn_dim": 2048, "encoder_attention_heads": 8,
                 "pad_token_id": 0, "architectures": ["MBartForCausalLM"]}, (BF16, AMP, FP32, AGAIN),
    ),
    "differential attention": (
        "", "", {**_LLAMA, "model_type": "diffllama", "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        (BF16, AMP, FP32, EAGER, AGAIN),
    ),
    "normed before down": (
        "", "", {**_LLAMA, "model_type": "bitnet", "hidden_act": "relu2",
                 "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
        (BF16, AMP, FP32, AGAIN),
    ),
    "streams that predict ahead": (
        "prophetnet-large", "",
        {"num_encoder_layers": 2, "num_decoder_layers": 2, "hidden_size": 256, "encoder_ffn_dim": 512, "decoder_ffn_dim": 512,
         "vocab_size": 512, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4, "pad_token_id": 0,
         "decoder_start_token_id": 1, "eps": 0.0},
        tuple({**setting, "seq_len": 256} for setting in WRITTEN_OUT),
    ),
    "memory in chunks": (
        "xlstm-7b", "",
        {"num_hidden_layers": 3, "num_blocks": 3, "hidden_size": 512, "embedding_dim": 512, "vocab_size": 512, "num_heads": 4,
         "pad_token_id": 0},
        # in bf16 its code multiplies matrices of two types, which ends in an error
        (WRITTEN_OUT[1], FP32, {**WRITTEN_OUT[1], "recompute": "full"}),
    ),
    "on the unit sphere": (
        "nemotron-labs-dory-1.0-4b", "",
        {"num_hidden_layers": 8, "layer_types": ["sliding_attention", "mlp", "full_attention", "mlp"] * 2, "n_input_layers": 2,
         "n_output_layers": 2, "n_recurrent_layers": 4, "n_recurrent_loops": 3, "hidden_size": 512, "intermediate_size": 1024,
         "vocab_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "pad_token_id": 0},
        (BF16, AMP, FP32, EAGER, AGAIN),
    ),
    "transformer beside embeddings, adapted": (
        "", "",
        {"model_type": "zamba2", "num_hidden_layers": 4, "vocab_size": 512, "pad_token_id": 0, "hidden_size": 512,
         "layers_block_type": ["linear_attention", "hybrid"] * 2, "n_mamba_heads": 8, "mamba_headdim": 128, "chunk_size": 64,
         "mamba_d_state": 16, "num_mem_blocks": 1, "use_mem_rope": True, "intermediate_size": 1024, "adapter_rank": 32,
         "num_attention_heads": 4, "num_key_value_heads": 4, "attention_hidden_size": 1024, "attention_head_dim": 256},
        (BF16, AMP, FP32, EAGER),
    ),
    "transformer beside embeddings": (
        "zamba-7b-v1", "",
        {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
         "hidden_size": 512, "attention_hidden_size": 1024, "attention_head_dim": 128, "num_attention_heads": 8,
         "num_key_value_heads": 8, "intermediate_size": 1024, "vocab_size": 512, "mamba_dt_rank": 32, "pad_token_id": 0},
        # a loop over tokens; its rates are fp32 whatever the type
        tuple({**setting, "seq_len": 64} for setting in (AMP, {"precision": "fp32", "recompute": "full"})),
    ),
}  # fmt: skip


def small(name: str) -> dict[str, Any]:
    """The config of a row of SMALL."""
    preset, inner, changes, _ = SMALL[name]
    values = json.loads(json.dumps(read_config_values(preset))) if preset else {}
    return _changed(values[inner] if inner else values, changes)


def _changed(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        if value is None:
            values.pop(key, None)
        else:
            values[key] = _changed(values[key], value) if isinstance(value, dict) and key in values else value
    return values


def rows(names: list[str]) -> Iterator[dict[str, Any]]:
    """One row a model and setting, traced."""
    from memcalc.trace.step import trace

    for name in names:
        values = small(name)
        for setting in SMALL[name][3]:
            run = Training(**{**BATCH, **setting})
            found = trace(values, run)
            traced = {moment: getattr(found, moment) for moment in MOMENTS}
            yield {"name": name, "config": values, "settings": {**BATCH, **setting}, "traced": traced}
            print(name, setting, traced, flush=True)


def write(names: list[str]) -> None:
    """Trace these anew; the rows of the others stay."""
    kept = [row for row in json.loads(FILE.read_text("utf-8"))["rows"] if row["name"] not in names] if FILE.exists() else []
    made = [*kept, *rows(names)]
    order = list(SMALL)
    lines = ",\n".join(json.dumps(row) for row in sorted(made, key=lambda row: order.index(row["name"])))
    source = "a step of transformers 5.24's modules under PyTorch 2.13's fake tensors, benchmarks/tapes.py"
    FILE.write_text(f'{{"source": {json.dumps(source)},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:] or list(SMALL))
