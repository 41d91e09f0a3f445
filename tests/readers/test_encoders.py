"""What encoders have beside their parameter counts (those are in tests/reference/families.json): windows, caches, sharing."""

from typing import Any

import pytest

from memcalc.errors import InputError
from memcalc.readers.hf import read_config

SMALL = {
    "vocab_size": 1009, "hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 144,
    "max_position_embeddings": 130,
}  # fmt: skip
NEOMME = {"head_dim": 16, "num_key_value_heads": 2}
JOINED = {"model_type": "encoder-decoder", "encoder": {"model_type": "bert", **SMALL}}


def windows(model_type: str, **changes: Any) -> list[int | None]:
    """The window of each layer's attention."""
    (part,) = read_config({"model_type": model_type, **SMALL, **changes}).parts
    (stack,) = part.stacks
    found = []
    for kind, count in stack.runs:
        found += [next(b.traits.window for _, b in stack.layers[kind].blocks if b.traits.heads)] * count
    return found


@pytest.mark.parametrize(
    ("model_type", "changes", "expected"),
    [
        # transformers modeling_modernbert.py: local_attention // 2 tokens on either side of the query, and itself
        ("modernbert", {}, [None, 129, 129, None]),
        ("modernbert", {"global_attn_every_n_layers": 2, "local_attention": 64}, [None, 65, None, 65]),
        ("modernbert", {"layer_types": ["full_attention"] * 3 + ["sliding_attention"]}, [None, None, None, 129]),
        ("ultrabert", {"sliding_window": 16}, [17, 17, None, 17]),
        # modeling_longformer.py: half of the window on either side, by layer
        ("longformer", {"attention_window": [4, 8, 6, 4]}, [5, 9, 7, 5]),
        # configuration_neomme.py: every second window is the long one, the last layer sees all
        ("neomme", NEOMME, [257, 1025, 257, None]),
        ("neomme", {**NEOMME, "per_layer_config": {"00": {"sliding_window": 8}}}, [9, 257, 257, None]),
    ],
)  # fmt: skip
def test_windows(model_type: str, changes: dict[str, Any], expected: list[int | None]) -> None:
    assert windows(model_type, **changes) == expected


@pytest.mark.parametrize("model_type", ["modernbert", "nomic_bert", "deberta-v2", "albert", "xlm", "funnel", "bert"])
def test_what_sees_both_ways_keeps_no_cache(model_type: str) -> None:
    funnel = {"d_head": 24, "d_inner": 144, "block_sizes": [2, 2], "num_decoder_layers": 1} if model_type == "funnel" else {}
    parts = read_config({"model_type": model_type, **SMALL, **funnel}).parts
    blocks = [block for part in parts for stack in part.stacks for layer in stack.layers for _, block in layer.blocks]
    assert not any(block.cache() for block in blocks)


def test_albert_stores_its_layers_once() -> None:
    """transformers modeling_albert.py: layer i is of group i × groups / depth."""
    counts = [read_config({"model_type": "albert", **SMALL, "num_hidden_layers": n}).parameters for n in (1, 4, 12)]
    assert len(set(counts)) == 1
    (part,) = read_config({"model_type": "albert", **SMALL, "num_hidden_layers": 12}).parts
    assert part.stacks[0].depth == 12


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model_type": "albert", "num_hidden_groups": 9}, "num_hidden_groups"),
        ({"model_type": "deberta-v2", "attention_head_size": 30}, "attention_head_size"),
        ({"model_type": "squeezebert", "q_groups": 7, "embedding_size": 96}, "q_groups"),
        ({"model_type": "xlm", "asm": True}, "asm"),
        ({"model_type": "longformer", "attention_window": [4, 8]}, "attention_window"),
        ({"model_type": "convbert", "add_cross_attention": True}, "add_cross_attention"),
        ({"model_type": "t5gemma", "is_encoder_decoder": False, "architectures": ["T5GemmaModel"]}, "is_encoder_decoder"),
        ({"model_type": "longt5", "encoder_attention_type": "global"}, "encoder_attention_type"),
        ({**JOINED, "decoder": {"model_type": "gpt2"}}, "model_type"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=key):
        read_config({**SMALL, **changes})
