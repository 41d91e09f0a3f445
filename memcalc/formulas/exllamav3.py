"""What ExLlamaV3 allocates of a chunk of a prompt beside the widest moment of a layer.

Source: exllamav3 modules/quant/exl3.py (reconstruct_hgemm), generator/generator.py.
"""

from memcalc.formulas.formula import formula

SLICE = 32_768  # outputs of a matrix that are made again at once
RECONSTRUCTED = 144  # rows from which a matrix is


@formula("exllamav3", "modules/quant/exl3.py, reconstruct_hgemm: from 145 rows a matrix is made again in fp16")
def reconstructed_bytes(inputs: int, outputs: int) -> int:
    """The largest matrix in fp16, while a prompt is multiplied with it.

    inputs × outputs × 2      outputs: at most 32,768 at once. Returns bytes [B].
    """
    return inputs * outputs * 2
