"""Encoders, and models of an encoder and a decoder."""
