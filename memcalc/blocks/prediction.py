"""A model's own multi-token-prediction layers as a draft: what engines load of them beside the model.

DeepSeek-V3 (arXiv 2412.19437), section 2.2: each module is one more layer of the model behind a matrix that joins the hidden
state with the next token's embedding; embedding and head are the model's own. vllm/model_executor/models/deepseek_mtp.py,
qwen3_next_mtp.py; llama.cpp src/llama-model.cpp, nextn tensors.
"""

import re
from dataclasses import replace

from memcalc.blocks.architecture import Architecture, Layer, Part, Quantization, Stack, StoredAs
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.plain import Plain
from memcalc.caches import cached
from memcalc.errors import Unsupported

ANNOUNCED = re.compile(r"(\d+) multi-token-prediction ")


@cached(256)
def prediction_layers(architecture: Architecture) -> Architecture:
    """The prediction layers that a config announces, alike to the model's last layer with a cache.

    Raises Unsupported where it announces none.
    """
    found = next((match for note in architecture.notes if (match := ANNOUNCED.match(note))), None)
    main = next((part for part in architecture.parts if part.name == "language"), None)
    if not found or not main:
        raise Unsupported("--draft mtp: the model's config announces no multi-token-prediction layers; name a draft model")
    count = int(found[1])
    before, place = 0, None
    for stack in main.stacks:
        for kind, run in stack.runs:
            before += run
            if any(block.cache() for _, block in stack.layers[kind].blocks):
                place = (stack.layers[kind], stack.path, before - 1)
    if place is None:
        raise Unsupported("--draft mtp: prediction layers of a model without attention are not modelled")
    layer, path, number = place
    norms = (Weight(f"{name}_norm", "norm", (architecture.hidden,)) for name in ("embedding", "hidden", "final"))
    joined = Plain((*linear("join", "projector", 2 * architecture.hidden, architecture.hidden), *norms))
    part = Part("language", (("prediction", joined),), (Stack.uniform(Layer(layer.blocks, layer.parallel), count, path),))
    return replace(
        architecture, parts=(part,), notes=(), tied=False, held=0, quantization=_at(architecture.quantization, number, count)
    )


def _at(quantization: Quantization, number: int, count: int) -> Quantization:
    """How the layer of that number is stored, for so many like it."""
    stored = tuple(
        (key, (StoredAs(0, count, run.word),))
        for key, runs in quantization.stored
        for run in runs
        if run.first <= number < run.stop
    )
    return quantization._replace(stored=stored)
