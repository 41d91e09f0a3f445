"""How long a training step takes: the same blocks as memory, in seconds."""
