"""Decoders with attention and a feed-forward in every layer."""
