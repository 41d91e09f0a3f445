"""The truth: a training step traced with PyTorch itself, under fake tensors on the CPU.

Nothing is computed and no weights are needed: tensors have shapes, types and sizes only. What is traced is what a CUDA device
would allocate (see `cuda_like`). PyTorch and transformers are an optional extra and are imported only inside functions here.
"""
