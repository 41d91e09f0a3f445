"""memcalc: memory, compute and scaling laws of large language models."""

__version__ = "0.1.0"
