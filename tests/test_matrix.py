"""Every preset under every engine, with and without a GPU, over all words of formats: an answer or a refusal, no fault.

The formats (and for training the optimizers and methods) rotate, so that each meets many presets and each engine; the strides
share no factor with the lengths.
"""

from collections.abc import Iterator

import pytest

import memcalc as api
from memcalc.errors import MemcalcError
from memcalc.formulas.engines import ENGINES
from memcalc.formulas.methods import METHODS
from memcalc.formulas.optimizer_table import OPTIMIZERS
from memcalc.formulas.serving_engines import SERVING_ENGINES
from memcalc.readers.catalogue import preset_names
from memcalc.specs.quantization import weight_words

PRESETS = preset_names("models")
WORDS = weight_words()
SAMPLE = frozenset(PRESETS[::3])  # meet a rare word of formats as well, under every engine
COMMON = ("Q4_K_M", "bf16", "checkpoint", "fp8", "int4-g128", "Q8_0", "nf4")
GPUS = ("h100", None, "t4", "mi300x")


@pytest.mark.parametrize("start", range(6))
def test_serving(start: int) -> None:
    faults = []
    for number, name in enumerate(PRESETS[start::6]):
        model = api.read_model(name)
        for index, engine in enumerate((None, *SERVING_ENGINES)):
            turn = 6 * number + index
            asked = ((COMMON[turn % 7], GPUS[turn % 4]), (WORDS[turn * 11 % len(WORDS)], GPUS[(turn + 2) % 4]))
            for word, gpu in asked if name in SAMPLE else asked[:1]:
                try:
                    api.size_serving(model, gpu, engine=engine, weights=word).report()
                except MemcalcError:
                    pass
                except Exception as error:
                    faults.append((name, engine, word, gpu, repr(error)))
    assert not faults


@pytest.mark.parametrize("start", range(6))
def test_training(start: int) -> None:
    faults = []
    for number, name in enumerate(PRESETS[start::6]):
        model = api.read_model(name)
        for turn, (engine, settings) in enumerate(_trainings(number)):
            try:
                api.size_training(model, GPUS[(number + turn) % 4], engine=engine, **settings)
            except MemcalcError:
                pass
            except Exception as error:
                faults.append((name, engine, settings, repr(error)))
    assert not faults


def _trainings(number: int) -> Iterator[tuple[str, dict[str, object]]]:
    optimizers, methods = list(OPTIMIZERS), list(METHODS)
    for index, engine in enumerate(ENGINES):
        turn = number + 7 * index
        sharded = ({}, {"gpus": 8, "zero": turn % 4}, {"gpus": 8, "fsdp": "full"})[turn % 3]
        yield engine, {"optimizer": optimizers[turn % len(optimizers)], "method": methods[turn % len(methods)], **sharded}
