"""config.json → architecture: every reference row to the last parameter, and hostile files in one line.

The rows of tests/reference/params.json were made by building the model classes of transformers 5.18 on the meta device.
"""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memcalc.errors import InputError, MemcalcError
from memcalc.readers.files import read_json_object
from memcalc.readers.hf import MODULES, family, read_config
from memcalc.readers.models import read_model

ROWS = json.loads((Path(__file__).parents[1] / "reference" / "params.json").read_text(encoding="utf-8"))
LLAMA = next(row["config"] for row in ROWS if row["name"] == "meta-llama/Meta-Llama-3.1-8B")


@pytest.mark.parametrize("row", ROWS, ids=[f"{i}-{row['name']}" for i, row in enumerate(ROWS)])
def test_counts_are_exact(row):
    found = read_config(row["config"])
    expected = {
        "total_params": found.parameters,
        "tied_lm_head": found.tied,
        "embedding_params": found.embedding_parameters,
        "routed_expert_params": found.routed_expert_parameters,
        "active_params": found.active_parameters,
    }
    for key, ours in expected.items():
        if key in row:
            assert ours == row[key], f"{row['name']} {key}: {ours} here, {row[key]} in transformers 5.18"
    layers = sorted(sorted(runs) and [list(run) for run in runs] for runs in found.layers_by_run().values())
    assert layers == sorted([list(run) for run in runs] for runs in row["per_layer_params"].values()), row["name"]
    assert sum(found.by_role().values()) == found.parameters


@pytest.mark.parametrize("model_type", sorted(MODULES))
def test_every_registered_family_has_a_reader(model_type):
    assert callable(family(model_type).read)


def test_unknown_type_with_llama_keys_is_read_as_llama_and_says_so():
    found = read_config({**LLAMA, "model_type": "llama9"})
    assert found.parameters == 8_030_261_248
    assert "read as a llama" in found.warnings[0]


def test_unknown_type_names_the_missing_keys():
    with pytest.raises(InputError, match="hidden_size, num_hidden_layers") as error:
        read_config({"model_type": "lama", "vocab_size": 10})
    assert "did you mean llama" in str(error.value)


WRONG = [
    ({"hidden_size": -4096}, "hidden_size"),
    ({"hidden_size": "4096"}, "hidden_size"),
    ({"hidden_size": 4097}, "hidden_size"),
    ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
    ({"num_hidden_layers": 0}, "num_hidden_layers"),
    ({"num_attention_heads": 0}, "num_attention_heads"),
    ({"num_key_value_heads": 7}, "num_key_value_heads"),
    ({"vocab_size": float("inf")}, "vocab_size"),
    ({"vocab_size": 1e30}, "vocab_size"),
    ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ({"rms_norm_eps": "small"}, "rms_norm_eps"),
    ({"model_type": 7}, "model_type"),
    ({"model_type": None, "hidden_size": None}, "hidden_size"),
]


@pytest.mark.parametrize(("change", "key"), WRONG, ids=[f"{next(iter(c))}-{i}" for i, (c, _) in enumerate(WRONG)])
def test_wrong_values_name_the_key(change, key):
    with pytest.raises(InputError, match=key):
        read_config({**LLAMA, **change}, "config.json")


FILES = [
    (b'{"model_type": "llama", "hidden_size": 4', "not JSON"),
    (b"", "not JSON"),
    (b"[1, 2]", "an object is needed"),
    (b'{"model_type": "llama", "rms_norm_eps": NaN}', "rms_norm_eps must be between 0 and 1, not nan"),
    (b'{"model_type": "gpt2", "n_embd": Infinity, "n_head": 12, "n_layer": 2}', "n_embd must be a whole number, not inf"),
    (b'{"model_type": "llama", "hidden_size": 1e400}', "missing|hidden_size"),
    (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
    (b"\xff\xfe{}", "UTF-8"),
    (b"[" * 100_000, "deep|JSON"),
    (b'{"a":' * 200 + b"1" + b"}" * 200, "nested"),
    (b" " * (9 * 2**20), "larger"),
]


@pytest.mark.parametrize(("data", "message"), FILES, ids=range(len(FILES)))
def test_hostile_files_are_refused(tmp_path, data, message):
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        read_config(read_json_object(str(path)), str(path))
    assert "\n" not in str(error.value)


def test_missing_files_and_empty_folders(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_model(str(tmp_path / "nothing" / "config.json"))
    with pytest.raises(InputError, match=r"no config\.json"):
        read_model(str(tmp_path))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(10**30), max_value=10**30),
    st.sampled_from([0, -1, 1, 3, 7, 10**9, 2**31, 2**63]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=20),
    st.lists(st.one_of(st.integers(-5, 5), st.text(max_size=5), st.none()), max_size=5),
    st.dictionaries(st.text(max_size=8), st.integers(-5, 5), max_size=3),
)


@st.composite
def broken_configs(draw):
    """A real config with some keys replaced by junk or dropped, also inside nested configs."""
    config = copy.deepcopy(draw(st.sampled_from(ROWS))["config"])
    for _ in range(draw(st.integers(1, 3))):
        place = config
        nested = [value for value in config.values() if isinstance(value, dict) and value]
        if nested and draw(st.booleans()):
            place = draw(st.sampled_from(nested))
        key = draw(st.sampled_from(sorted(place)))
        if draw(st.integers(0, 3)):
            place[key] = draw(JUNK)
        else:
            del place[key]
            if not place:
                break
    return config


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(broken_configs())
def test_broken_configs_are_read_or_refused(config):
    try:
        found = read_config(config)
    except MemcalcError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert "\n" not in refusal
    if refusal:
        return
    assert isinstance(found.parameters, int)
    assert 0 < found.active_parameters <= found.parameters
