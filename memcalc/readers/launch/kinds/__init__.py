"""One module a kind of launch file: the keys that it has, and what each says."""
