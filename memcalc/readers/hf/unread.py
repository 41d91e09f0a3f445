"""Keys of a config that no reader asked for, and which of them may hide a size.

A family's own reader knows what its library builds, so a size that it did not ask for means a variant that it does not know: a
warning. A model type that nobody knows is read as a llama only when every key is one that a llama's reader understands or
that changes no count.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from memcalc.readers.hf.config import Config

# Keys by their last part that change no count in any model: ids of tokens, positions, scales, routing without weights,
# what a checkpoint's own quantization says (read elsewhere), SpecAugment's masks.
HARMLESS = (
    r"(?<!mask_)token_ids?$|token_index$|tokens_per_second$|suppress_tokens$|theta$|^rope_|^mrope|original_max|position_embeddings$"
    r"|^(id2label|label2id|num_labels|problem_type)$|quantization_config$|compression_config$|^n_group$|topk_group$|scal(e|ar|ing)"
    r"|(?<!sampling)(?<!expansion)_factor$|^pretraining_tp$|max_window_layers$|^mask_(time|feature)_|seq_length$|soft_tokens_per_image$|^logits_to_keep$|^num_logits_to_keep$"
)

# What the configuration classes of transformers write for every model, generation settings of older files among it.
WRITTEN_ALWAYS = frozenset(
    """
    model_type architectures auto_map transformers_version torch_dtype dtype _name_or_path name_or_path use_cache
    is_decoder is_encoder_decoder initializer_range initializer_std init_std output_attentions
    output_hidden_states output_router_logits return_dict return_dict_in_generate output_scores use_return_dict
    tie_encoder_decoder add_cross_attention cross_attention_hidden_size tokenizer_class prefix
    task_specific_params finetuning_task gradient_checkpointing attn_implementation _attn_implementation
    _attn_implementation_autoset chunk_size_feed_forward do_sample early_stopping max_length min_length
    max_new_tokens num_beams num_beam_groups num_return_sequences diversity_penalty length_penalty
    repetition_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size temperature top_k top_p typical_p
    bad_words_ids remove_invalid_values exponential_decay_length_penalty tf_legacy_loss use_bfloat16 torchscript
    pruned_heads attention_dropout dropout classifier_dropout rms_norm_eps bos_token eos_token pad_token
    """.split()  # noqa: SIM905
)

# Of wav2vec 2 and its kin: strides, what pre-training and other classes add, adapters that are switched off.
WAVEFORM = (
    "adapter_kernel_size adapter_stride classifier_proj_size codevector_dim conv_stride num_adapter_layers num_clusters "
    "num_codevector_groups num_codevectors_per_group num_ctc_classes num_feat_extract_layers num_negatives "
    "output_hidden_size proj_codevector_dim tdnn_dilation tdnn_dim tdnn_kernel vocab_size xvector_output_dim "
)
# Keys that a family's configuration class has and its model builds nothing from, or nothing where they are not asked for.
UNUSED: Mapping[str, str] = {
    "multimodal.audio_text": (
        "audio_frame_step audio_length_per_tok default_num_delay_tokens head_dim hidden_size n_window "
        "n_window_infer num_key_value_heads vocab_size"
    ),
    "hybrids.bamba": "intermediate_size mamba_expand num_attention_heads num_key_value_heads",
    "encoders.bart_line": (
        "attention_window block_size decoder_vocab_size encoder_no_repeat_ngram_size expert_capacity num_random_blocks "
        "max_length num_beams prompt_length prompt_mid_dim relative_max_distance vocab_size"
    ),
    "encoders.bert_line": (
        "mask_token_id max_num_columns max_num_rows projection_dim"
    ),
    "encoders.long_attention": (
        "block_per_row block_size hash_code_len num_hash num_landmarks num_random_blocks projection_dim "
        "segment_means_seq_len"
    ),
    "encoders.characters": "local_transformer_stride max_position_embeddings vocab_size",
    "encoders.documents": "dim_bbox dim_bbox_sinusoid_emb_1d max_rel_2d_pos max_rel_pos subs_pad_id tag_pad_id",
    "encoders.text_towers": "projection_dim",
    "mixtures.compressed": "hc_sinkhorn_iters qk_rope_head_dim",
    "encoders.vit_clip": "encoder_stride projection_dim",
    "encoders.encoder_decoder": WAVEFORM + "encoder_no_repeat_ngram_size encoder_stride",
    "encoders.waveform": WAVEFORM,
    "encoders.speecht5": WAVEFORM + (
        "conv_dim conv_kernel guided_attention_loss_num_heads max_speech_positions max_text_positions "
        "num_conv_pos_embeddings num_conv_pos_embedding_groups num_mel_bins reduction_factor speaker_embedding_dim "
        "speech_decoder_postnet_kernel speech_decoder_postnet_layers speech_decoder_postnet_units "
        "speech_decoder_prenet_layers speech_decoder_prenet_units"
    ),
    "multimodal.gemma": (
        "_sliding_window_pattern default_output_length global_head_dim mm_tokens_per_image pooling_kernel_size "
        "vision_soft_tokens_per_image vocab_size_per_layer_input"
    ),
    "encoders.dia": "delay_pattern",
    "multimodal.vibevoice": "diffusion_max_period hidden_size latent_size vocab_size",
    "multimodal.transcribers": "acoustic_tokenizer_chunk_size audio_chunk_size conv_stride",
    "multimodal.gemma_kin": (
        "centroid_intermediate_top_k global_head_dim num_centroids num_global_key_value_heads pooling_kernel_size"
    ),
    "decoders.blt": "encoder_cross_output_size hidden_size_global local_attention_window_len patch_size sliding_window",
    "decoders.dense": "audio_encoder_config audio_vocab_size depth_decoder_config num_codebooks",
    "decoders.own_layouts": "end_n_top mask_index mem_len position_bias_max_distance reuse_len start_n_top unk_index",
    "mixtures.jetmoe": "num_attention_heads",
    "decoders.looped": "L_bp_cycles num_hidden_layers",
    "hybrids.xlstm": "embedding_dim max_inference_chunksize num_blocks",
    "hybrids.inkling2": "n_layers_per_attn_res_block rel_extent",
    "decoders.fuyu": "image_size",
    "multimodal.phi4_multimodal": "crop_size left_chunk nemo_final_size",
    "hybrids.convolved": "intermediate_size moe_intermediate_size number_of_conv_states rel_extent",
    "decoders.differential": "keep_window_size num_experts num_experts_per_tok",
    "multimodal.glm_vl": "image_size",
    "decoders.gpt": "alibi_bias_max expansion_ratio",
    "decoders.gpt_rotary": "num_kv_heads num_key_value_heads",
    "hybrids.gated_delta": "head_dim intermediate_size num_attention_heads num_key_value_heads",
    "multimodal.image_text": (
        "conv_L_cache head_dim hidden_size im_end_id im_newline_id im_start_id image_grid_pinpoints image_size "
        "img_max_token_num insert_layer_id max_vit_seq_len merge_kernel_size min_image_size num_image_tokens "
        "num_key_value_heads out_hidden_size patch_size projection_dim projector_patch_to_query_dict qk_head_dim "
        "spatial_pool_stride temporal_patch_size text_hidden_size visual_indicator_token_ids vocab_size"
    ),
    "mixtures.interleaved": "attention_chunk_size sliding_window_size swa_num_attention_heads",
    "hybrids.kimi_linear": (
        "first_k_dense_replace head_dim kv_lora_rank linear_conv_kernel_dim linear_head_dim linear_num_heads "
        "moe_intermediate_size num_attention_heads num_expert_group num_experts num_experts_per_token "
        "num_key_value_heads qk_head_dim qk_nope_head_dim qk_rope_head_dim v_head_dim"
    ),
    "mixtures.latent": "dim_model_base first_k_dense_replace head_dim intermediate_size num_key_value_heads qk_head_dim",
    "mixtures.latent_gated": "first_k_dense_replace head_dim intermediate_size num_key_value_heads qk_head_dim",
    "hybrids.lfm": "conv_L_cache intermediate_size num_attention_heads num_key_value_heads sliding_window",
    "hybrids.mamba": "num_attention_heads num_key_value_heads time_step_rank",
    "multimodal.minimax_m3": (
        "merged_hidden_size "
        "dense_intermediate_size image_size img_token_compression_config index_block_size index_head_dim index_n_heads "
        "index_topk_blocks projection_dim rotary_dim vision_segment_max_frames vocab_size"
    ),
    "mixtures.experts": "experts_per_token hidden_size initial_context_length intermediate_size",
    "mixtures.mixture_kinds": "first_k_dense_replace intermediate_size",
    "multimodal.mllama": "intermediate_layers_indices",
    "multimodal.own_towers": "vocab_size head_dim num_key_value_heads pos_emb_time qk_head_dim",
    "hybrids.nemotron_h": "attention_head_dim expand intermediate_size time_step_rank",
    "multimodal.molmo": "image_patch_id image_size",
    "multimodal.nemo_speech": (
        "chunk_left_context chunk_length chunk_right_context expand fifo_length intermediate_size speaker_cache_length "
        "speaker_cache_update_period streaming_config time_step_rank"
    ),
    "multimodal.nemotron_omni": (
        "expand image_size intermediate_size patch_dim time_step_rank video_patch_dim video_temporal_patch_size"
    ),
    "multimodal.captioners": "encoder_hidden_size image_text_hidden_size perceiver_config projection_dim",
    "multimodal.codecs": (
        "audio_bos_token_id audio_delay_token_id audio_eos_token_id audio_stream_bos_id audio_stream_eos_id codec_config "
        "frame_size head_dim"
    ),
    "mixtures.latent_sparse": "hc_sinkhorn_iters head_dim num_key_value_heads qk_head_dim",
    "multimodal.dots": (
        "conv_output_size head_dim hc_sinkhorn_iters hop_length image_size num_key_value_heads qk_head_dim sampling_rate "
        "samples_per_token spatial_merge_size"
    ),
    "multimodal.inkling": (
        "head_dim hidden_size intermediate_size n_layers_per_attn_res_block num_attention_heads num_key_value_heads "
        "number_of_conv_states rel_extent text_hidden_size"
    ),
    "multimodal.florence": (
        "encoder_attention_heads encoder_ffn_dim encoder_layers max_temporal_embeddings patch_padding patch_stride"
    ),
    "multimodal.retrievers": "hidden_size num_image_tokens projection_dim vocab_size",
    "multimodal.muse": "intermediate_size num_local_experts num_experts_per_tok",
    "multimodal.ocr": "head_dim max_window_layers num_pos_feats scale sliding_window vocab_size",
    "multimodal.omni": (
        "accept_hidden_layer block_size codec_bos_id codec_nothink_id codec_pad_id codec_think_bos_id codec_think_eos_id "
        "enc_dilations look_ahead_layers look_backward_layers num_code_groups repeats spatial_merge_size "
        "tts_codec_mask_token_id upsample_rates conv_chunksize intermediate_size "
        "n_window n_window_infer position_id_per_seconds max_source_positions "
        "seconds_per_chunk"
    ),
    "encoders.other_encoders": (
        "block_repeats end_n_top intra_bottleneck_size mask_index num_attention_heads num_decoder_layers start_n_top "
        "tpu_short_seq_length unk_index"
    ),
    "decoders.post_norm": "_sliding_window_pattern",
    "multimodal.qwen_vl": (
        "heads_per_ngram make_ngram_vocab_size_divisible_by ngram_size ngram_vocab_size_base number_of_conv_states "
        "ple_conv_kernel_size ple_embed_dim seed split_ngram_parts "
        "head_dim intermediate_size num_attention_heads num_key_value_heads"
    ),
    "hybrids.qwen4": (
        "heads_per_ngram make_ngram_vocab_size_divisible_by ngram_size ngram_vocab_size_base number_of_conv_states "
        "ple_conv_kernel_size ple_embed_dim seed split_ngram_parts"
    ),
    "hybrids.rwkv": "rescale_every",
    "encoders.rotary_encoders": "mask_token_id",
    "multimodal.qformer": (
        "context_size encoder_hidden_size image_grid_pinpoints image_text_hidden_size text_config projection_dim vocab_size"
    ),
    "encoders.speech_text": "max_target_positions pad_head_dim_to_multiple_of",
    "encoders.udop": "relative_attention_max_distance",
    "encoders.t5gemma": "mm_tokens_per_image cross_attention_hidden_size decoder vocab_size",
    "encoders.seq2seq": "classifier_proj_size median_filter_width",
    "encoders.t5_line": (
        "decoder_sparse_step encoder_sparse_step expert_capacity global_block_size local_radius "
        "relative_attention_max_distance"
    ),
    "hybrids.zamba": (
        "attn_layer_offset attn_layer_period hybrid_layer_ids intermediate_size kv_channels mamba_headdim "
        "num_attention_heads num_key_value_heads num_query_groups"
    ),
    "multimodal.vqgan": "model_parallel_size num_image_tokens num_patches vocabulary_map",
    "multimodal.step_vl": "intermediate_size query_pre_attn_scalar",
}  # fmt: skip

SHOWN = 6  # names in a message


def unread_sizes(c: Config, module: str) -> tuple[str, ...]:
    """A warning where the file holds sizes that the reader in `module` did not ask for."""
    unused = UNUSED.get(module, "").split()
    names = [key for key, value in c.unasked() if _last(key) not in unused and _has_size(value) and not _harmless(key)]
    return (f"{_listed(names)} not read: sizes that this model type does not have here",) if names else ()


def foreign(c: Config) -> str:
    """The keys, named, that keep a config of an unknown model type from being read as a llama; "" where there are none."""
    return _listed(
        key for key, value in c.unasked()
        if _last(key) not in WRITTEN_ALWAYS and not _harmless(key) and not _switched_off(key, value)
    )  # fmt: skip


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _harmless(key: str) -> bool:
    return re.search(HARMLESS, _last(key)) is not None


def _has_size(value: Any) -> bool:
    """Whether a whole number above 1 stands in it: a count of 1 or 0 adds nothing."""
    if isinstance(value, Mapping):
        return any(_has_size(entry) for entry in value.values())
    if isinstance(value, list):
        return any(_has_size(entry) for entry in value)
    return isinstance(value, int) and not isinstance(value, bool) and value > 1


def _switched_off(key: str, value: Any) -> bool:
    """A null, or a false that does not deny something (`no_bias: false` means a bias)."""
    return value is None or (value is False and not re.match(r"(no|non|without|disable|skip|remove|ignore)_", _last(key)))


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(f"{name:.60}" for name in found[:SHOWN]) + more
