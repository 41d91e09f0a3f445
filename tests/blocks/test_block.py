"""Every block answers everything; one that does not fails when it is defined; nobody asks for what no block has."""

import ast
import contextlib
import json
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import memcalc
import memcalc.blocks
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size, Tape, Var
from memcalc.blocks.architecture import Architecture, Layer, Part, Stack
from memcalc.blocks.block import ANSWERS, Block, Traits
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.counting import count, decode_work
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.ledger import Buffer, Cache, Weight, linear
from memcalc.blocks.mixers.state import StateTensor
from memcalc.blocks.sequence_convolution import SequenceConvolution
from memcalc.blocks.stored_block import StoredBlock
from memcalc.blocks.task_head import EmbeddingHead, MeanOfTokens
from memcalc.errors import InputError, Unsupported
from memcalc.readers.catalogue import preset_names
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_model_preset

PACKAGE = Path(memcalc.__file__).parent
FAMILIES = Path(__file__).parents[1] / "reference" / "families.json"

for _found in pkgutil.iter_modules(memcalc.blocks.__path__):
    import_module(f"memcalc.blocks.{_found.name}")
KINDS = sorted(Block.__subclasses__(), key=lambda kind: kind.__name__)


# Blocks that no config here has: an objective puts one on, a GGUF file's tensors are another, DeBERTa 2's convolution is off,
# no class of wav2vec 2's is one that classifies.
MADE = (EmbeddingHead(64), StoredBlock(linear("weight", "mlp", 64, 64)), SequenceConvolution(64, 64, 3), MeanOfTokens(64))


def _blocks(architecture: Architecture) -> Iterator[tuple[str, Block]]:
    for part in architecture.parts:
        yield from (*part.entry, *part.exit)
        for stack in part.stacks:
            for layer in stack.layers:
                yield from layer.blocks


def _defaults() -> Iterator[Architecture]:
    for row in json.loads(FAMILIES.read_text(encoding="utf-8")):
        with contextlib.suppress(InputError, Unsupported):
            yield read_config(row["config"])


@pytest.fixture(scope="module")
def examples() -> dict[type, tuple[str, Block, int]]:
    """One of every kind of block, from the presets and the families' default configs: its path, itself, the model's width."""
    found: dict[type, tuple[str, Block, int]] = {}
    presets = (read_model_preset(name).architecture for name in preset_names("models", ()))
    for architecture in (*presets, *_defaults()):
        assert architecture is not None
        for path, block in _blocks(architecture):
            found.setdefault(type(block), (path, block, architecture.hidden))
    return found | {type(block): ("made", block, 64) for block in MADE}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_block_answers_everything(kind: type[Block], examples: dict[type, tuple[str, Block, int]]) -> None:
    if kind not in examples:
        pytest.skip("no preset has one")
    path, block, hidden = examples[kind]
    profile = Profile()
    assert all(isinstance(weight, Weight) for weight in block.weights())
    assert all(isinstance(buffer, Buffer) for buffer in block.constants())
    assert all(isinstance(cache, Cache) for cache in block.cache())
    assert all(isinstance(cache, Cache) and isinstance(shared, bool) for cache, shared in block.read_caches())
    assert all(isinstance(state, StateTensor) for state in block.state())
    assert isinstance(block.traits, Traits)
    assert isinstance(block.computed, Block)
    given = () if kind in (Embedding, Convolution) else (Var(Size(token=hidden), profile.formats.residual, True, "input"),)
    with contextlib.suppress(Unsupported):
        assert isinstance(block.forward(Tape(), profile, *given), Var)
    assert all(work.forward.token >= 0 for work in count(path, block, profile, hidden).works)
    assert all(work.forward.token >= 0 for work in decode_work(path, block, profile, hidden))


def test_nearly_every_kind_has_an_example(examples: dict[type, tuple[str, Block, int]]) -> None:
    assert len(set(KINDS) - examples.keys()) <= 1, sorted(kind.__name__ for kind in set(KINDS) - examples.keys())


def test_a_block_that_lacks_an_answer_fails_when_it_is_defined() -> None:
    with pytest.raises(TypeError, match="says nothing about weights, constants, cache, state, forward, traits"):
        type("Silent", (Block,), {})
    for missing in ANSWERS:
        others = {name: getattr(Block, name) for name in ANSWERS if name != missing}
        with pytest.raises(TypeError, match=f"says nothing about {missing}; define it"):
            type("Silent", (Block,), others)
        type("Spoken", (Block,), others, without=(missing,))  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="without caches, which no block has"):
        type("Misspelt", (Block,), {}, without=(*ANSWERS, "caches"))  # type: ignore[call-overload]


ASKING = [path for folder in ("blocks", "estimates") for path in sorted((PACKAGE / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", ASKING, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_guesses(path: Path) -> None:
    """No hasattr, and no getattr by a fixed name: what a block has none of, it says."""
    wrong = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "hasattr" or (node.func.id == "getattr" and isinstance(node.args[1], ast.Constant))
    ]
    assert not wrong, f"{path.name} asks by name: {', '.join(wrong)}"


@pytest.mark.parametrize("path", [p for p in ASKING if "estimates" in p.parts], ids=lambda path: path.stem)
def test_no_decision_by_a_models_name(path: Path) -> None:
    """Estimates read facts of an architecture, never its family's name."""
    compared = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)))
        and any(isinstance(part, ast.Attribute) and part.attr == "model_type" for part in ast.walk(node))
    ]
    assert not compared, f"{path.name} decides by model_type in lines {compared}"


def test_parts_of_the_walk_exist() -> None:
    """The walk above follows these fields; renaming one would make it see nothing."""
    assert {"entry", "stacks", "exit"} <= set(Part.__dataclass_fields__)
    assert "layers" in Stack.__dataclass_fields__
    assert "blocks" in Layer.__dataclass_fields__


def test_what_is_refused_of_bitnet_is_tensor_parallelism_alone(tmp_path: Path) -> None:
    config = {"model_type": "bitnet", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 96,
              "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    cut, whole = (str(memcalc.size_training(str(tmp_path), gpus=tp, tp=tp).to_dict()) for tp in (2, 1))
    said = "tensor parallelism of feed-forwards with a norm inside (BitNet) is not modelled"
    assert (said in cut, said in whole) == (True, False)
