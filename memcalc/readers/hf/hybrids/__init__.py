"""Models that mix attention with recurrences, state spaces or convolutions, or that have no attention."""
