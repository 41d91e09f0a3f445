"""How many patches and tiles images become, beside transformers' own image processors (marked torch)."""

import ast
import functools
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memcalc.blocks.image_sizes import Bounded, Budgeted, Capped, Enlarged, WholeSquares
from memcalc.blocks.image_tiles import ChosenCanvas, LeastLost, NearestGrid, TilesOfLongest, TilesWhenLarge
from memcalc.blocks.images import ImageRule

Function = Callable[..., Any]
SIZES = [(random.Random(seed).randint(30, 4000), random.Random(-1 - seed).randint(30, 4000)) for seed in range(200)]


def functions(family: str, *names: str, file: str = "image_processing") -> list[Function]:
    """Functions of a processor's file, which cannot be imported without torchvision; of its classes too."""
    import collections

    import torch
    import transformers

    path = Path(transformers.__file__).parent / "models" / family / f"{file}_{family}.py"
    found: dict[str, Any] = {"math": math, "lru_cache": functools.lru_cache, "MAX_IMAGE_SIZE": 4096, "get_image_size": None}
    found["get_image_size"] = lambda image, _format: image
    found |= {"torch": torch, "defaultdict": collections.defaultdict}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            node.returns, node.decorator_list = None, []
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
    (minimax,), (paddle,) = functions("minimax_m3_vl", "smart_resize"), functions("paddleocr_vl", "smart_resize")
    (glm5,) = functions("glm5_next", "smart_resize")
    _, pixtral = functions("pixtral", "_num_image_tokens", "get_resize_output_image_size")
    for height, width in SIZES:
        of = (height, width)
        assert Budgeted(14, 16384, 512).pieces(*of, (28, 28))[0].sides == kimi(*of, 14, 2, 16384, 512)[1]
        assert Enlarged(280).pieces(*of, (48, 48))[0].sides == gemma4(*of, 16, 2520, 3)
        assert Bounded(6272, 5880000).pieces(*of, (28, 28))[0].sides == glm(2, *of, 2, 28, 12544, 28 * 28 * 15000)
        assert Bounded(3136, 451584).pieces(*of, (28, 28))[0].sides == minimax(*of, 28, 3136, 451584)
        assert WholeSquares(16, 8000).pieces(*of, (28, 28))[0].sides == glm5(2, *of, 2, 28, 16, 8000)
        assert WholeSquares(16, 400).pieces(*of, (28, 28))[0].sides == glm5(2, *of, 2, 28, 16, 400)
        for size in (of, (of[0], 20 + of[1] % 9), (20 + of[0] % 9, of[1])):
            if max(size) <= 200 * min(size):
                assert Bounded(147456, 2359296, True).pieces(*size, (28, 28))[0].sides == paddle(*size, 28)
        assert Capped(1540).pieces(*of, (28, 28))[0].sides == pixtral(of, 1540, 28)


@pytest.mark.torch
def test_tiles_of_images() -> None:
    _, canvas = functions("got_ocr2", "get_all_supported_aspect_ratios", "get_optimal_tiled_canvas")
    for height, width in SIZES:
        tiles = math.prod(canvas((height, width), (448, 448), 1, 12))
        assert NearestGrid(448, 1, 12).pieces(height, width, (28, 28))[0].number == (tiles + 1 if tiles > 1 else 1)
        assert TilesOfLongest(384, 1536).pieces(height, width, (28, 28))[0].number == idefics3(height, width)


CANVASES = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))  # configuration_llava_next.py
WIDE = tuple((384 * high, 384 * wide) for high in range(1, 7) for wide in range(1, 7))  # configuration_llava_onevision.py


def anyres(of: tuple[int, int], canvases: tuple[tuple[int, int], ...], tile: int, side: int, kind: str) -> tuple[int, int]:
    """Tiles and the language model's tokens by the processors' own functions."""
    from types import SimpleNamespace

    from transformers.image_processing_utils import select_best_resolution

    family = "llava_onevision" if kind else "llava_next"
    (unpadded,) = functions(family, "_get_unpadded_features", file="processing")
    high, wide = select_best_resolution(of, [list(canvas) for canvas in canvases])
    this = SimpleNamespace(vision_aspect_ratio=kind)
    read = sum(unpadded(this, *of, side, side, high // tile, wide // tile))
    return 1 + high // tile * (wide // tile), read + side**2


@pytest.mark.torch
def test_tiles_of_canvases() -> None:
    import torch
    from transformers.image_utils import SizeDict

    of_all, best, _ = functions("llama4", "find_supported_resolutions", "get_best_fit", "get_factors")
    possible = torch.tensor(of_all(16, SizeDict(height=336, width=336)))
    next_, onevision = ImageRule((14, 14), ChosenCanvas(336, CANVASES)), ImageRule((14, 14), ChosenCanvas(384, WIDE, 9))
    for of in SIZES:
        tiles = int((best(of, possible) // 336).prod())
        assert LeastLost(336, 16).pieces(*of, (28, 28))[0].number == (tiles + 1 if tiles > 1 else 1), of
        pieces = next_.sizing.pieces(*of, (14, 14))
        assert (sum(piece.number for piece in pieces), next_.seen(*of).tokens) == anyres(of, CANVASES, 336, 24, ""), of
        pieces = onevision.sizing.pieces(*of, (14, 14))
        assert (sum(p.number for p in pieces), onevision.seen(*of).tokens) == anyres(of, WIDE, 384, 27, "anyres_max_9"), of


@pytest.mark.torch
def test_tiles_of_large_images_alone() -> None:
    from types import SimpleNamespace

    rounded, nearest, ratios, grid, whole, large = functions(
        "lfm2_vl", "round_by_factor", "find_closest_aspect_ratio", "_target_ratios", "_get_grid_layout", "smart_resize",
        "_is_image_too_large",
    )  # fmt: skip
    del rounded, nearest
    this = SimpleNamespace(_target_ratios=lambda *bounds: ratios(None, *bounds))
    sizing = TilesWhenLarge(NearestGrid(512, 2, 10), Bounded(64 * 1024, 256 * 1024))
    for of in SIZES:
        wide, high = whole(None, *of, 2, 64, 256, 16)
        cut = grid(this, *of, 2, 10, 512)[4] if large(None, *of, 256, 16, 2, 2.0) else 0
        assert [(piece.number, piece.sides) for piece in sizing.pieces(*of, (32, 32))] == [
            *([(cut, (512, 512))] if cut else []), (1, (high, wide)),
        ], of  # fmt: skip
