"""Values as other programs write them → ours, for the fields of specs that take one of some names.

Capitals, hyphens, underscores and dots never matter, so `FULL_SHARD` stands here as `fullshard`. Only words that mean the same.
"""

from collections.abc import Mapping

from memcalc.formulas.optimizers import SPELLINGS as OPTIMIZER_SPELLINGS
from memcalc.formulas.optimizers import squashed

WORDS: Mapping[str, Mapping[str, str]] = {
    "optimizer": OPTIMIZER_SPELLINGS,
    # torch.distributed.fsdp.ShardingStrategy; transformers TrainingArguments.fsdp
    "fsdp": {
        "fullshard": "full", "fullshardautowrap": "full", "shardgradop": "grad-op", "shardgradopautowrap": "grad-op",
        "hybridshard": "hybrid", "hybridshardautowrap": "hybrid", "noshard": "none",
    },
    "backward_prefetch": {"backwardpre": "pre", "backwardpost": "post", "noprefetch": "none"},  # BackwardPrefetch; accelerate
    # transformers attn_implementation; LLaMA-Factory flash_attn
    "attention": dict.fromkeys(("flashattention", "flashattention2", "flashattn", "flashattn2", "fa2"), "flash")
    | dict.fromkeys(("flashattention3", "flashattn3", "flashattention4", "flashattn4", "fa3", "fa4"), "flash3"),
    "adapter_dtype": {"bf16": "half", "fp16": "half", "float32": "fp32"},
    # torch dtypes; Lightning's precision plugins
    "precision": {
        "float32": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16", "torchfloat32": "fp32",
        "torchfloat16": "fp16", "torchbfloat16": "bf16", "32true": "fp32", "16true": "fp16", "bf16true": "bf16",
    },
    # Megatron-LM cp_comm_type; DeepSpeed-Ulysses
    "cp_kind": {"p2p": "ring", "a2a": "all-to-all", "ulysses": "all-to-all"},
    "pipeline_schedule": {"interleaved1f1b": "interleaved"},
    "engine": {
        "megatronlm": "megatron", "megatroncore": "megatron", "pytorch": "torch", "trainer": "accelerate",
        "llamaserver": "llama.cpp", "llamacpp": "llama.cpp", "mlxlm": "mlx", "exllama": "exllamav3", "exl3": "exllamav3",
        "tabbyapi": "exllamav3", "ktransformer": "ktransformers", "trtllm": "tensorrt-llm", "huggingface": "transformers",
    },
    "method": {"fullfinetuning": "full", "fullparameter": "full",
               "rslora": "lora", "pissa": "lora", "qpissa": "qlora"},  # other scales and first values of the same tensors
    "base_format": {"bnbnf4": "nf4", "bnbfp4": "fp4", "llmint8": "int8", "bnb8bit": "int8", "bnbint8": "int8",
                    "finegrainedfp8": "fp8", "float8": "fp8", "e4m3": "fp8"},
    "train_also": {"embedding": "embeddings", "embedtokens": "embeddings", "wte": "embeddings", "lmhead": "head",
                   "norm": "norms"},
    "kbit_prepare": {"peft": "all", "on": "all", "preparemodelforkbittraining": "all", "off": "none"},
    "offload": {"optim": "optimizer", "params": "parameters", "param": "parameters", "activation": "activations"},
    "kernels": {"transformerengine": "te", "torchcompile": "compiled", "ligerkernel": "liger"},
    "flash_attention": {"auto": "on", "1": "on", "true": "on", "enabled": "on", "0": "off", "false": "off", "disabled": "off"},
    "freeze": {"embedding": "embeddings"},
}  # fmt: skip


# What to say of a word that is none of ours, where more is known than what is accepted: field, words, sentence.
_TRAINING_INT8 = (
    "training has int8-mixed (int8 matrix products over bf16 weights, as torchao trains) and --method qat (fake-quantised "
    "weights); infer has --weights int8"
)
_FP4 = "training has nvfp4-mixed (bf16 weights, fp32 master, linear layers in NVFP4)"
_MXFP4 = (
    "transformers trains no MXFP4 (quantizer_mxfp4.py, is_trainable): it is dequantised to bf16 first "
    "(Mxfp4Config(dequantize=True)), which is --method lora"
)
_CHECKPOINTING = "gradient checkpointing is full; Megatron-LM's of attention alone is selective"
_REINFORCED = "sizing reinforcement learning is not modelled yet; its launch files are imported with all their facts"
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("precision", "int8", _TRAINING_INT8),
    ("precision", "fp8", "training has fp8-mixed (bf16 weights, fp32 master, matrix products in fp8)"),
    ("precision", "fp4 nvfp4", _FP4),
    ("precision", "int4", "training has --method qlora (4-bit frozen weights) and --method qat; infer has --weights int4"),
    ("precision", "mixed amp", "16-bit products over fp32 weights are bf16-amp and fp16-amp, over a 16-bit copy bf16-mixed"),
    ("method", "ptuning", "p-tuning's encoder is not modelled; prompt-tuning and prefix-tuning are"),
    ("method", "boft", "butterflies of rotations are not modelled; oft is"),
    ("method", "freeze", "the last N layers alone are --train-layers N under method full"),
    ("method", "dpo kto orpo cpo simpo", "an objective, which --objective names; the method says what is trained"),
    ("method", "galore apollo lomo adalomo", "an optimizer, which --optimizer names"),
    ("method", "sft pretrain pretraining pt clm", "the next token's loss is the default; the method says what is trained"),
    ("method objective", "grpo ppo rloo dapo gspo reinforce rl rlhf", _REINFORCED),
    ("objective", "sft pretrain pretraining pt clm causallm", "the next token's loss is the default: leave it out"),
    ("objective", "rm rewardmodel", "a score for each of two sequences is reward"),
    ("objective", "embedding biencoder contrastive retrieval", "one vector a sequence is embed"),
    ("objective", "classification sequenceclassification", "a label for each sequence is classify"),
    ("objective", "ner tokenclassification", "a label for each token is token-classify"),
    ("base_format", "mxfp4", _MXFP4),
    ("base_format", "gguf", "transformers trains no GGUF (quantizer_gguf.py, is_trainable)"),
    ("base_format", "nvfp4", "the same library's adapters stand on no NVFP4; nf4, fp4, int8 or fp8"),
    ("engine", "unsloth", "its kernels are --kernels unsloth, under engine accelerate"),
    ("engine", "trl axolotl llamafactory transformers huggingface hf swift msswift peft",
     "it trains by transformers' Trainer: engine accelerate"),
    ("engine", "nemo megatronbridge mcore", "it trains by Megatron-LM: engine megatron"),
    ("engine", "lightning", "it trains by PyTorch's own DDP and FSDP: engine torch"),
    ("engine", "verl openrlhf slime", "its launch file says by which engine it trains: --from FILE"),
    ("engine", "koboldcpp llamafile gpt4all jan oobabooga", "it runs llama.cpp: engine llama.cpp"),
    ("engine", "triton tritonserver dynamo nim", "it starts an engine, whose memory it is: vllm, sglang, tensorrt-llm"),
    ("engine", "tgi textgenerationinference lmdeploy mlc mlcllm mii", "how it accounts for memory is not modelled"),
    ("engine", "fsdp fsdp1 fsdp2", "how states are sharded is --fsdp; engines are torch (FSDP2), accelerate (FSDP1) …"),
    ("engine", "zero zero1 zero2 zero3", "how states are sharded is --zero, under engine deepspeed"),
    ("engine", "ddp", "every GPU keeps all states where neither --zero nor --fsdp is given"),
    ("fsdp", "fsdp fsdp1 fsdp2 on true", "full shards all states; the engine says whose: torch FSDP2, accelerate FSDP1"),
    ("recompute", "on true", _CHECKPOINTING),
    ("offload", "cpu", "that says where to (--offload-to); here what: the optimizer, parameters, gradients, activations"),
    ("offload", "nvme", "that says where to (--offload-to); here what: the optimizer, parameters"),
    ("loss", "liger", "Liger's is fused, which --kernels liger takes by itself"),
    ("attention", "xformers", "its memory-efficient attention keeps as much as sdpa"),
    ("kernels", "xformers flash flashattention flashattn sdpa", "attention's own are --attention eager, sdpa, flash, flash3"),
)  # fmt: skip
HINTS: Mapping[tuple[str, str], str] = {
    (field, word): sentence for fields, words, sentence in _MEANINGS for field in fields.split() for word in words.split()
}


def hint(field: str, value: object) -> str:
    """What more to say of a word that a field refuses."""
    return HINTS.get((field, squashed(value)), "") if isinstance(value, str) else ""


def meant(field: str, value: object, names: tuple[str, ...]) -> object:
    """The name that a word stands for; what is none stays as it is, to be refused as it was typed.

    >>> meant("fsdp", "FULL_SHARD", ("full", "none")), meant("fsdp", "zero", ("full", "none"))
    ('full', 'zero')
    """
    if not isinstance(value, str) or value in names:
        return value
    plain = squashed(value)
    found = next((name for name in names if squashed(name) == plain), None) or WORDS.get(field, {}).get(plain)
    return found if found in names else value
