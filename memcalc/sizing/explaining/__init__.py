"""How do you know? The tree behind any key of an answer's document: `explain(answer, "per_gpu.peak")`.

One module a command, each a table from keys to what explains them; `keys` finds the row, `shared` has what several need.
"""
