"""Mixers that keep a state instead of a growing cache: linear attention, state spaces, recurrences."""
