"""Unsloth's dynamic mixtures by name: bits per parameter of published files. Each model has types of its own, tensor by tensor,
so a name alone stands for the median, and its range is said.

Sizes as unsloth's repositories on the Hugging Face hub list them (decimal GB, or bytes), over the parameters in the file:
DeepSeek V3.1, R1, R1-0528, V3-0324 671.03e9; GLM-4.6 356.8e9 (with its prediction layer); GLM-5.3-Flash 320.8e9 (half its BF16
file's bytes); MiniMax M2.1 and M2.5 228.69e9; Qwen3.8 27B 26.9e9 (with its prediction layer 27.3e9); Qwen3.5 9B 8.95e9 and 0.8B
0.75e9; Qwen3 4B 4.02e9. Of text alone: a tower is a file of its own.
Not counted: models with tables of n-grams or of layers, which are not quantised like the rest.
"""

from memcalc.frozen import NamedTuple


class DynamicMixture(NamedTuple):
    """`format`: what most tensors are in; `bits` per parameter of files, by model."""

    format: str
    bits: tuple[tuple[str, float], ...]


QWEN27, QWEN9, SMALL, GLM, FLASH, MINIMAX = (
    "Qwen3.8 27B", "Qwen3.5 9B", "Qwen3.5 0.8B", "GLM-4.6", "GLM-5.3-Flash", "MiniMax M2",
)  # fmt: skip

PUBLISHED: dict[str, DynamicMixture] = {
    "UD-IQ1_S": DynamicMixture("iq1_s", ((QWEN27, 1.84), (FLASH, 2.32))),
    "UD-IQ1_M": DynamicMixture("iq1_m", ((QWEN27, 2.00),)),
    "UD-IQ2_XXS": DynamicMixture("iq2_xxs", ((QWEN27, 2.16), (GLM, 2.58), ("DeepSeek V3-0324", 2.61))),
    "UD-IQ2_M": DynamicMixture("iq2_s", (("DeepSeek R1-0528", 2.73), (QWEN9, 3.26))),
    "UD-Q2_K_XL": DynamicMixture(
        "q2_k", (("DeepSeek R1", 2.71), (FLASH, 2.71), (QWEN27, 2.92), ("DeepSeek V3.1", 3.05))
    ),
    "UD-IQ3_XXS": DynamicMixture("iq3_xxs", ((FLASH, 3.00), (QWEN27, 3.25))),
    "UD-Q3_K_XL": DynamicMixture("q3_k", ((MINIMAX, 3.53), (GLM, 3.54), (FLASH, 3.68), (QWEN27, 3.91), (QWEN9, 4.51))),
    "UD-IQ4_XS": DynamicMixture("iq4_xs", ((FLASH, 3.91), (QWEN27, 4.24))),
    "UD-Q4_K_S": DynamicMixture("q4_k", ((QWEN27, 4.58),)),
    "UD-Q4_K_M": DynamicMixture("q4_k", ((QWEN27, 4.91),)),
    "UD-Q4_K_XL": DynamicMixture(
        "q4_k", ((MINIMAX, 4.58), ("DeepSeek V3-0324", 4.83), (FLASH, 4.98), (QWEN27, 5.22), (QWEN9, 5.34),
                 (SMALL, 5.83))
    ),
    "UD-Q5_K_M": DynamicMixture("q5_k", ((QWEN27, 5.89),)),
    "UD-Q5_K_XL": DynamicMixture("q5_k", ((GLM, 5.65), ("DeepSeek V3.1", 5.78), (FLASH, 5.99), (QWEN27, 6.21))),
    "UD-Q6_K_XL": DynamicMixture("q6_k", ((FLASH, 7.28), (QWEN27, 7.52))),
    "UD-Q8_K_XL": DynamicMixture("q8_0", ((QWEN27, 9.21), ("Qwen3 4B", 10.1), (SMALL, 12.4))),
}  # fmt: skip
