"""Mixtures of experts: their weights, their routers and the kernels that run them."""
