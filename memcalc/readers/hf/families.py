"""Which module reads which `model_type`. A family's own module is imported only when it is asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from memcalc.frozen import NamedTuple
from memcalc.readers.hf.config import MAX_LAYERS, Family

# A module in this package → the model types in its FAMILIES table, each in one module.
BY_MODULE = {
    "decoders.blt": "blt",
    "decoders.dense": (
        "llama mistral ministral ministral3 qwen2 qwen3 gemma phi3 glm smollm3 seed_oss ernie4_5 hunyuan_v1_dense "
        "apertus arcee moshi helium cwm"
    ),
    "decoders.differential": "diffllama doge",
    "decoders.fuyu": "fuyu",
    "decoders.gpt": "gpt2 gpt_bigcode openai-gpt ctrl biogpt xglm gpt_neo opt bloom mpt",
    "decoders.gpt_rotary": "gptj codegen gpt_neox gpt_neox_japanese phi persimmon falcon",
    "decoders.granite": "granite hyperclovax granite_swa granitemoe granitemoeshared granitemoe_swa",
    "decoders.layer_norm": "olmo cohere cohere2 cohere_compass_text nemotron stablelm starcoder2",
    "decoders.looped": "hrm_text dory",
    "decoders.modernbert_decoder": "modernbert-decoder",
    "decoders.own_layouts": "xlnet bert-generation cpmant",
    "decoders.post_norm": "gemma2 vaultgemma gemma3_text olmo2 olmo3 glm4 exaone4",
    "decoders.squared_relu": "jais2 nanochat bitnet",
    "mixtures.compressed": "deepseek_v4",
    "mixtures.experts": (
        "mixtral qwen2_moe qwen3_moe olmoe flex_olmo minimax_m2 phimoe dbrx gpt_oss ernie4_5_moe hunyuan_v1_moe "
        "glm4_moe dots1 mellum"
    ),
    "mixtures.gated": "afmoe laguna beam",
    "mixtures.interleaved": "llama4_text mimo_v2_flash minimax",
    "mixtures.jetmoe": "jetmoe",
    "mixtures.latent": "deepseek_v2 deepseek_v3 deepseek_v32 kimi_k2 glm4_moe_lite glm_moe_dsa longcat_flash minicpm3",
    "mixtures.latent_gated": "axk1 axk2 hy_v4 dots3_note_text",
    "mixtures.latent_sparse": "mistral_large4_text glm5_next_text",
    "mixtures.mixture_kinds": "kolibri1 flint exaone_moe hy_v3 cohere2_moe aria_text",
    "hybrids.bamba": "bamba granitemoehybrid falcon_h1",
    "hybrids.convolved": "zaya inkling_text",
    "hybrids.gated_delta": "qwen3_next qwen3_5_text qwen3_5_moe_text recurrent_gemma olmo_hybrid lara_mini",
    "hybrids.inkling2": "inkling2_text inkling2_loop_text",
    "hybrids.kimi_linear": "kimi_linear bailing_hybrid",
    "hybrids.lfm": "lfm2 lfm2_moe lfm3",
    "hybrids.mamba": "mamba mamba2 falcon_mamba jamba",
    "hybrids.nemotron_h": "nemotron_h",
    "hybrids.qwen4": "qwen4_exp_text",
    "hybrids.rwkv": "rwkv",
    "hybrids.xlstm": "xlstm",
    "hybrids.zamba": "zamba zamba2",
    "encoders.bart_line": (
        "bart mbart mvp m2m_100 nllb-moe marian pegasus pegasus_x bigbird_pegasus led blenderbot blenderbot-small "
        "fsmt prophetnet"
    ),
    "encoders.bert_line": (
        "bert roberta xlm-roberta distilbert megatron-bert xlm-roberta-xl roberta-prelayernorm ernie layoutlm tapas "
        "luke roc_bert roformer electra albert rembert mpnet xmod esm"
    ),
    "encoders.characters": "canine",
    "encoders.conformer_text": "canary cohere_asr parakeet_ctc",
    "encoders.deberta": "deberta deberta-v2",
    "encoders.dia": "dia",
    "encoders.documents": "lilt markuplm bros layoutlmv3 visual_bert",
    "encoders.encoder_decoder": "encoder-decoder vision-encoder-decoder speech-encoder-decoder",
    "encoders.long_attention": "longformer big_bird mra yoso nystromformer",
    "encoders.other_encoders": "xlm flaubert fnet squeezebert convbert mobilebert funnel",
    "encoders.privacy_filter": "openai_privacy_filter",
    "encoders.retrieval": "dpr splinter",
    "encoders.rotary_encoders": "modernbert nomic_bert gte jina_embeddings_v3 eurobert ultrabert esmc neomme",
    "encoders.seq2seq": "whisper trocr",
    "encoders.speech_text": "speech_to_text moonshine moonshine_streaming",
    "encoders.speecht5": "speecht5",
    "encoders.t5_line": "t5 mt5 umt5 longt5 switch_transformers pop2piano",
    "encoders.t5gemma": "t5gemma t5gemma2",
    "encoders.text_towers": "clip_text_model siglip_text_model siglip2_text_model tipsv2_text_model",
    "encoders.udop": "udop",
    "encoders.waveform": "wav2vec2 hubert",
    "encoders.vit_clip": "vit clip",
    "multimodal.audio_text": (
        "qwen2_audio voxtral voxtral_realtime voxtral_realtime_text audioflamingo3 musicflamingo glmasr qwen3_asr"
    ),
    "multimodal.captioners": "git blip kosmos-2 kosmos-2.5 idefics",
    "multimodal.codecs": "csm kyutai_speech_to_text higgs_audio_v2",
    "multimodal.dots": "dots3_note glm5_next",
    "multimodal.ernie_vl": "ernie4_5_vl_moe ernie4_5_vl_moe_text",
    "multimodal.florence": "florence2 pp_formulanet",
    "multimodal.gemma": "gemma3 gemma4 gemma4_text gemma4_unified",
    "multimodal.gemma3n": "gemma3n gemma3n_text",
    "multimodal.gemma_kin": "embedding_gemma2 embedding_gemma2_text gemma4_assistant gemma4_unified_assistant",
    "multimodal.glm_vl": "glm4v glm46v glm4v_moe glm_ocr",
    "multimodal.image_text": (
        "llava llava_next llava_next_video vipllava video_llava llava_onevision internvl idefics2 idefics3 smolvlm "
        "paligemma lfm2_vl cohere2_vision aya_vision deepseek_vl video_llama_3 qianfan_ocr paddleocr_vl cosmos3_edge "
        "minicpmv4_6 minicpmv4_7 minicpm_ocr ovis2 aria got_ocr2 pp_chart2table hy_v4_vl lfm3_vl granite_docling hunyuan_vl"
    ),
    "multimodal.inkling": "inkling_mm_model inkling2 inkling2_loop",
    "multimodal.minimax_m3": "minimax_m3_vl minimax_m3_vl_text",
    "multimodal.mllama": "mllama",
    "multimodal.molmo": "molmo2 molmo2_text",
    "multimodal.muse": "muse_glimmer muse_glimmer_text muse_spark muse_spark_text",
    "multimodal.nemo_speech": "nemo_speechlm",
    "multimodal.nemotron_omni": "nemotron_h_omni",
    "multimodal.ocr": "deepseek_vl_hybrid unlimited_ocr unlimited_ocr_text deepseek_ocr2 deepseek_ocr2_text",
    "multimodal.omni": "qwen2_5_omni qwen2_5_omni_thinker qwen3_omni_moe qwen3_omni_moe_thinker",
    "multimodal.own_towers": "llama4 mistral3 lighton_ocr mistral_large4 pixtral kimi_k25 kimi_vl",
    "multimodal.phi4_multimodal": "phi4_multimodal",
    "multimodal.qformer": ("blip-2 instructblip instructblipvideo granite_speech granite_speech_plus granite4_vision"),
    "multimodal.qwen_vl": (
        "qwen2_vl qwen2_5_vl qwen3_vl qwen3_vl_moe qwen3_5 qwen3_5_moe exaone4_5 hyperclovax_vision_v2 cohere_compass qwen4_exp"
    ),
    "multimodal.transcribers": "omniasr fun_asr_nano moss_transcribe_diarize vibevoice_asr",
    "multimodal.vqgan": "chameleon janus emu3",
    "multimodal.retrievers": "colpali colqwen2 colmodernvbert",
    "multimodal.seeing_encoders": "modernvbert ultravbert",
    "multimodal.vibevoice": "vibevoice",
    "multimodal.step_vl": "step3p5 step3p7",
}
MODULES: dict[str, str] = {name: module for module, names in BY_MODULE.items() for name in names.split()}


class Kin(NamedTuple):
    """A model type built of another's modules (transformers modular_<type>.py)."""

    like: str
    defaults: Mapping[str, Any] = {}  # of its configuration class, where they are not the other's
    renamed: Mapping[str, str] = {}  # its own spelling of a key → the other's (attribute_map)


KIN: Mapping[str, Kin] = {
    "apertus1p5_text": Kin("apertus"),
    "camembert": Kin("roberta"),
    "clap_text_model": Kin("roberta", {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}),
    "cosmos3_omni": Kin("qwen3_vl"),
    "data2vec-text": Kin("roberta"),
    "exaone4_5_text": Kin("exaone4"),  # configuration_exaone4_5.py renames it so
    "emu3_text_model": Kin(
        "llama",
        {"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "attention_dropout": 0.1, "max_position_embeddings": 9216},
    ),
    "exaone": Kin("llama", {"num_key_value_heads": 8}, {"layer_norm_epsilon": "rms_norm_eps"}),
    "gemma4_unified_text": Kin(
        "gemma4_text", {"hidden_size_per_layer_input": 0, "sliding_window": 1024, "max_position_embeddings": 262144}
    ),
    "gpt-sw3": Kin("gpt2"),
    "hy_v4_vl_text": Kin(
        "hy_v4", {"q_lora_rank": 2048, "index_n_heads": 32, "moe_intermediate_size": 2048, "n_routed_experts": 256}
    ),
    "glm4v_text": Kin("glm4", {"head_dim": None, "rms_norm_eps": 1e-5, "max_position_embeddings": 32768}),
    "glm4v_moe_text": Kin("glm4_moe", {"attention_bias": True, "max_position_embeddings": 65536, "num_experts_per_tok": 8}),
    "glm_ocr_text": Kin("glm4", {"head_dim": None, "num_key_value_heads": 8, "attention_bias": False, "rms_norm_eps": 1e-5}),
    "granite4_vision_text": Kin("granite"),
    "granite_docling_text": Kin(
        "granite",
        {"num_key_value_heads": 4, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "max_position_embeddings": 32768},
    ),
    "glmga": Kin("glm46v"),
    "ibert": Kin("roberta"),
    "internlm3": Kin("llama", {"num_key_value_heads": 2}, {"qkv_bias": "attention_bias", "bias": "mlp_bias"}),
    "iquestcoder": Kin("llama", {"num_key_value_heads": 8}),
    "metaclip_2_text_model": Kin("clip_text_model"),
    "mistral4": Kin(
        "deepseek_v3", {"kv_lora_rank": 256, "q_lora_rank": 1024, "qk_nope_head_dim": 64, "first_k_dense_replace": 0}
    ),
    "plbart": Kin("bart", {"attention_dropout": 0.1, "scale_embedding": True, "num_labels": 2}),
    "paddleocr_vl_text": Kin("ernie4_5", {"num_key_value_heads": 2}),
    "cosmos3_edge_text": Kin("arcee", {"num_key_value_heads": 8, "head_dim": 128}),
    "hunyuan_vl_text": Kin("hunyuan_v1_dense", {"tie_word_embeddings": True}),
    "qwen2_vl_text": Kin("qwen2", {"num_key_value_heads": 8, "rms_norm_eps": 1e-5}),
    "qwen2_5_vl_text": Kin("qwen2", {"num_key_value_heads": 8, "rms_norm_eps": 1e-5}),
    "qwen3_vl_text": Kin("qwen3", {"sliding_window": None, "max_position_embeddings": 128000}),
    "qwen3_vl_moe_text": Kin("qwen3_moe", {"num_key_value_heads": 16, "sliding_window": None, "norm_topk_prob": True}),
    "qwen2_5_omni_text": Kin("qwen2", {"num_key_value_heads": 4, "max_position_embeddings": 32768}),
    "qwen3_omni_moe_text": Kin("qwen3_moe", {"num_experts": 128, "num_experts_per_tok": 8, "sliding_window": None}),
    "sarvam_mla": Kin("deepseek_v3", {"q_lora_rank": None, "first_k_dense_replace": 1}),
    "sarvam_moe": Kin("glm4_moe", {"num_key_value_heads": 4, "rms_norm_eps": 1e-6, "head_dim": 64, "use_qk_norm": True}),
    "shieldgemma2": Kin("gemma3"),
    "solar_open": Kin("glm4_moe", {"head_dim": 128, "first_k_dense_replace": 0, "partial_rotary_factor": 1.0}),
    "unispeech": Kin("wav2vec2"),
    "unispeech-sat": Kin("wav2vec2"),
    # dense throughout
    "youtu": Kin("deepseek_v3", {"first_k_dense_replace": MAX_LAYERS, "tie_word_embeddings": True}),
}
MODULES |= {name: MODULES[kin.like] for name, kin in KIN.items()}


def family(model_type: str) -> Family:
    """The reader of one model type."""
    module = import_module(f"memcalc.readers.hf.{MODULES[model_type]}")
    kin = KIN.get(model_type)
    found: Family = module.FAMILIES[kin.like if kin else model_type]
    return found._replace(defaults={**found.defaults, **kin.defaults}, renamed=kin.renamed) if kin else found
