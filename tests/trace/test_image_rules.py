"""How many patches and tiles images become, beside transformers' own image processors (marked torch)."""

import ast
import functools
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memcalc.blocks.images import Bounded, Budgeted, Capped, Enlarged, NearestGrid, TilesOfLongest

Function = Callable[..., Any]
SIZES = [(random.Random(seed).randint(30, 4000), random.Random(-1 - seed).randint(30, 4000)) for seed in range(200)]


def functions(family: str, *names: str) -> list[Function]:
    """Functions of a processor's file, which cannot be imported without torchvision."""
    import transformers

    path = Path(transformers.__file__).parent / "models" / family / f"image_processing_{family}.py"
    found: dict[str, Any] = {"math": math, "lru_cache": functools.lru_cache, "MAX_IMAGE_SIZE": 4096, "get_image_size": None}
    found["get_image_size"] = lambda image, _format: image
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            node.returns = None
            for argument in node.args.args:
                argument.annotation = None
            exec(compile(ast.Module([node], []), family, "exec"), found)
    return [found[name] for name in names]


def idefics3(height: int, width: int) -> int:
    """resize, resize_for_vision_encoder and split_images, one after the other, of sizes alone."""
    whole, below = functions(
        "idefics3", "_resize_output_size_rescale_to_max_len", "_resize_output_size_scale_below_upper_bound"
    )
    height, width = below(*whole(height, width, max_len=1536), max_len=4096)
    ratio = width / height
    if width >= height:
        width = math.ceil(width / 384) * 384
        height = math.ceil(int(width / ratio) / 384) * 384
    else:
        height = math.ceil(height / 384) * 384
        width = math.ceil(int(height * ratio) / 384) * 384
    return height // 384 * (width // 384) + 1 if max(height, width) > 384 else 1


@pytest.mark.torch
def test_sizes_of_images() -> None:
    (kimi,) = functions("kimi_k25", "navit_resize")
    (gemma4,) = functions("gemma4", "get_aspect_ratio_preserving_size")
    (glm,) = functions("glm4v", "smart_resize")
    _, pixtral = functions("pixtral", "_num_image_tokens", "get_resize_output_image_size")
    for height, width in SIZES:
        of = (height, width)
        assert Budgeted(14, 16384, 512).pieces(*of, (28, 28))[0].sides == kimi(*of, 14, 2, 16384, 512)[1]
        assert Enlarged(280).pieces(*of, (48, 48))[0].sides == gemma4(*of, 16, 2520, 3)
        assert Bounded(6272, 5880000).pieces(*of, (28, 28))[0].sides == glm(2, *of, 2, 28, 12544, 28 * 28 * 15000)
        assert Capped(1540).pieces(*of, (28, 28))[0].sides == pixtral(of, 1540, 28)


@pytest.mark.torch
def test_tiles_of_images() -> None:
    _, canvas = functions("got_ocr2", "get_all_supported_aspect_ratios", "get_optimal_tiled_canvas")
    for height, width in SIZES:
        tiles = math.prod(canvas((height, width), (448, 448), 1, 12))
        assert NearestGrid(448, 1, 12).pieces(height, width, (28, 28))[0].number == (tiles + 1 if tiles > 1 else 1)
        assert TilesOfLongest(384, 1536).pieces(height, width, (28, 28))[0].number == idefics3(height, width)
