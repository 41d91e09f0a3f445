"""Shell scripts read, never run: what assignments, arrays, tests and loops of the text itself determine."""
