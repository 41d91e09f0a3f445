"""Attention by softmax, one file a kind, and what their kernels keep."""
