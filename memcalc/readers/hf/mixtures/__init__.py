"""Decoders whose feed-forward is a mixture of experts, with ordinary or latent attention."""
