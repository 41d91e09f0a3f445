"""The bibliography: every paper, library and data sheet that a number or a formula cites, under one key."""

from memcalc.frozen import NamedTuple


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
        "deepspeed/runtime/zero/config.py: reduce_bucket_size 5e8, prefetch 5e7",
    ),
    "megatron-lm": Source("Megatron-LM core", "NVIDIA", 2024, "megatron/core: tensor_parallel, distributed optimizer"),
    "transformer-engine": Source(
        "Transformer Engine", "NVIDIA", 2025, "transformer_engine/pytorch/attention/dot_product_attention/context_parallel.py"
    ),
    "transformers": Source("Hugging Face transformers", "Hugging Face", 2026, "transformers 5.18 model classes"),
    "model-config": Source(
        "The model's own configuration", "its publisher", 2026, "config.json: sizes, from which shapes follow"
    ),
    "weight-file": Source("The weight file itself", "its publisher", 2026, "safetensors or GGUF header"),
    "vllm": Source("vLLM", "vLLM contributors", 2026, "vllm 0.19, V1 engine"),
    "sglang": Source("SGLang", "SGLang contributors", 2025, "sglang 0.5, srt"),
    "deep-ep": Source("DeepEP", "DeepSeek", 2026, "deepseek-ai/DeepEP"),
    "flashinfer": Source("FlashInfer", "FlashInfer contributors", 2026, "flashinfer-ai/flashinfer"),
    "llama.cpp": Source("llama.cpp", "ggml authors", 2025, "ggml-org/llama.cpp"),
    "measured-serving": Source(
        "Published measurements of serving memory",
        "engines' start-up logs",
        2026,
        "presets/measured, each row with its citation",
    ),
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
    "cuda-context": Source(
        "CUDA context size with lazy loading",
        "PyTorch, InvokeAI, Unsloth and llm-d contributors",
        2026,
        "about 300 MiB in general: PyTorch issue 107667; Titan V 319.25 MiB: PyTorch issue 28394; RTX 3090 256 MiB: InvokeAI "
        "issue 9413; RTX 6000 Ada 426 MiB: unsloth-zoo pull request 1053; H100 0.51 GiB: llm-d-planner pull request 205",
    ),
    "nccl-buffers": Source(
        "NCCL communicator memory",
        "NVIDIA and llm-d contributors",
        2026,
        "A100 544 MB with 2 ranks, 688 MB with more: NCCL issue 964; H100 1.0 GiB: llm-d-planner pull request 205",
    ),
    "cublas-workspace": Source(
        "cuBLAS workspaces in PyTorch",
        "PyTorch and MatX contributors",
        2024,
        "8.125 MiB: PyTorch issue 95668; 32 MiB from Hopper on: PyTorch pull request 120925",
    ),
    "vllm-quantization": Source(
        "vLLM quantised layers",
        "vLLM contributors",
        2026,
        "vllm/model_executor/layers/quantization: fp8.py, gptq_marlin.py, modelopt.py, mxfp4.py, compressed_tensors/schemes",
    ),
    "llama-cpp-quantize": Source(
        "llama.cpp, mixtures of llama-quantize",
        "ggml-org",
        2026,
        "src/llama-quant.cpp, commit 007dbbf: llama_tensor_get_type_impl, tensor_type_fallback",
    ),
    "mlx": Source("MLX and mlx-lm", "Apple", 2026, "ml-explore/mlx, ml-explore/mlx-lm 0.32"),
    "exllamav3": Source("ExLlamaV3", "turboderp", 2026, "turboderp-org/exllamav3 1.4"),
    "unsloth": Source(
        "Unsloth's dynamic GGUF files", "Unsloth", 2026, "sizes of files on the Hugging Face hub, unsloth/*-GGUF"
    ),
    "auto-gptq": Source(
        "AutoGPTQ", "AutoGPTQ contributors", 2024, "auto_gptq/nn_modules/qlinear: qweight, qzeros, scales, g_idx"
    ),
    "kaplan-2020": Source("Scaling Laws for Neural Language Models", "Kaplan et al.", 2020, "arXiv 2001.08361"),
    "brown-2020": Source("Language Models are Few-Shot Learners", "Brown et al.", 2020, "arXiv 2005.14165"),
    "hoffmann-2022": Source("Training Compute-Optimal Large Language Models", "Hoffmann et al.", 2022, "arXiv 2203.15556"),
    "chowdhery-2022": Source("PaLM: Scaling Language Modeling with Pathways", "Chowdhery et al.", 2022, "arXiv 2204.02311"),
    "touvron-2023": Source("LLaMA: Open and Efficient Foundation Language Models", "Touvron et al.", 2023, "arXiv 2302.13971"),
    "amodei-2018": Source("AI and compute", "Amodei, Hernandez", 2018, "openai.com/index/ai-and-compute"),
    "pytorch-flop-counter": Source(
        "PyTorch FlopCounterMode", "PyTorch contributors", 2026, "torch/utils/flop_counter.py, PyTorch 2.13"
    ),
    "besiroglu-2024": Source(
        "Chinchilla Scaling: A replication attempt", "Besiroglu, Erdil, Barnett, You", 2024, "arXiv 2404.10102"
    ),
    "deepseek-llm-2024": Source(
        "DeepSeek LLM: Scaling Open-Source Language Models with Longtermism", "DeepSeek-AI", 2024, "arXiv 2401.02954"
    ),
    "llama3-2024": Source("The Llama 3 Herd of Models", "Llama Team", 2024, "arXiv 2407.21783"),
    "krajewski-2024": Source(
        "Scaling Laws for Fine-Grained Mixture of Experts", "Krajewski, Ludziejewski et al.", 2024, "arXiv 2402.07871"
    ),
    "muennighoff-2023": Source("Scaling Data-Constrained Language Models", "Muennighoff et al.", 2023, "arXiv 2305.16264"),
    "sardana-2024": Source(
        "Beyond Chinchilla-Optimal: Accounting for Inference in Language Model Scaling Laws",
        "Sardana, Portes, Doubov, Frankle",
        2024,
        "arXiv 2401.00448",
    ),
    "williams-2009": Source(
        "Roofline: An Insightful Visual Performance Model for Multicore Architectures",
        "Williams, Waterman, Patterson",
        2009,
        "Communications of the ACM 52(4)",
    ),
    "pope-2022": Source("Efficiently Scaling Transformer Inference", "Pope et al.", 2022, "arXiv 2211.05102"),
    "tensorrt-llm-performance": Source(
        "Performance of TensorRT-LLM",
        "NVIDIA",
        2023,
        "TensorRT-LLM 0.6.1 docs/source/performance.md: first token of LLaMA 7B after 2048: A100 133 ms, H100 fp8 36 ms",
    ),
    "gpt-fast": Source(
        "gpt-fast, benchmarks",
        "PyTorch contributors",
        2023,
        "pytorch-labs/gpt-fast README.md: 1397, 1069 and 1482 GB/s of an A100's 2039",
    ),
    "databricks-2023": Source(
        "LLM Inference Performance Engineering: Best Practices",
        "Agarwal et al., MosaicML and Databricks",
        2023,
        "databricks.com/blog/llm-inference-performance-engineering-best-practices: model bandwidth utilization",
    ),
    "nccl-nvlink": Source(
        "NVLink bandwidth that programs see",
        "NCCL and ml-engineering contributors",
        2024,
        "H100 SXM, one way: 380 of 450 GB/s and 376 in all-reduces: NCCL issue 1264",
    ),
    "memcalc": Source("memcalc's own definition", "memcalc", 2026, "an addition, or a constant stated in its docstring"),
}
