"""Compute: FLOPs of a model, budgets of compute, time and money, scaling laws and published runs."""
