"""The bibliography: every paper, library and data sheet that a number or a formula cites, under one key."""

from typing import NamedTuple


class Source(NamedTuple):
    title: str
    authors: str
    year: int
    where: str


SOURCES: dict[str, Source] = {
    "rajbhandari-2020": Source(
        "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
        "Rajbhandari, Rasley, Ruwase, He",
        2020,
        "arXiv 1910.02054",
    ),
    "korthikanti-2022": Source(
        "Reducing Activation Recomputation in Large Transformer Models",
        "Korthikanti et al.",
        2022,
        "arXiv 2205.05198",
    ),
    "narayanan-2021": Source(
        "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM",
        "Narayanan et al.",
        2021,
        "arXiv 2104.04473",
    ),
    "huang-2019": Source(
        "GPipe: Efficient Training of Giant Neural Networks using Pipeline Parallelism",
        "Huang et al.",
        2019,
        "arXiv 1811.06965",
    ),
    "micikevicius-2018": Source("Mixed Precision Training", "Micikevicius et al.", 2018, "arXiv 1710.03740"),
    "hu-2021": Source("LoRA: Low-Rank Adaptation of Large Language Models", "Hu et al.", 2021, "arXiv 2106.09685"),
    "dettmers-2023": Source("QLoRA: Efficient Finetuning of Quantized LLMs", "Dettmers et al.", 2023, "arXiv 2305.14314"),
    "ainslie-2023": Source(
        "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints",
        "Ainslie et al.",
        2023,
        "arXiv 2305.13245",
    ),
    "pytorch-fsdp2": Source(
        "PyTorch fully_shard",
        "PyTorch contributors",
        2024,
        "torch/distributed/fsdp/_fully_shard/_fsdp_param.py (dim-0 chunks, padded)",
    ),
    "pytorch-ddp": Source(
        "PyTorch DistributedDataParallel",
        "PyTorch contributors",
        2020,
        "torch/nn/parallel/distributed.py, gradient_as_bucket_view=False",
    ),
    "pytorch-autograd": Source(
        "PyTorch autograd and torch.optim", "PyTorch contributors", 2026, "PyTorch 2.13, traced tensor by tensor"
    ),
    "deepspeed": Source(
        "DeepSpeed ZeRO configuration and stage_1_and_2.py",
        "DeepSpeed contributors",
        2024,
        "deepspeed/runtime/zero/config.py: reduce_bucket_size 5e8, prefetch 5e7, max_live_parameters 1e9",
    ),
    "megatron-lm": Source("Megatron-LM core", "NVIDIA", 2024, "megatron/core: tensor_parallel, distributed optimizer"),
    "transformers": Source("Hugging Face transformers", "Hugging Face", 2026, "transformers 5.18 model classes"),
    "transformers-anatomy": Source(
        "Model memory anatomy",
        "Hugging Face",
        2024,
        "transformers docs, model_memory_anatomy.md and perf_train_gpu_one.md",
    ),
    "coursera-2023": Source(
        "Generative AI with Large Language Models, week 1: computational challenges",
        "DeepLearning.AI and AWS",
        2023,
        "lecture notes: 4 bytes to store, 20 more to train",
    ),
    "cuda-context": Source("CUDA context size with lazy loading", "PyTorch contributors", 2023, "PyTorch issue 107667"),
    "nccl-buffers": Source("NCCL communicator memory", "NVIDIA", 2023, "NCCL issue 964: 544–688 MB on A100"),
    "memcalc": Source("memcalc's own definition", "memcalc", 2026, "an addition, or a constant stated in its docstring"),
}
