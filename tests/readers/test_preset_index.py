"""What is written down of all shipped presets is what they hold, and a name needs no other preset."""

from pathlib import Path

import pytest

from memcalc.errors import InputError
from memcalc.readers import catalogue
from memcalc.readers.catalogue import find_preset, preset_names
from memcalc.readers.models import read_model
from memcalc.readers.names import NameIndex, alike, named, names_of
from memcalc.readers.preset_index import index_texts, model_facts


def test_the_indexes_are_those_of_the_presets() -> None:
    for path, text in index_texts().items():
        assert Path(path).read_text(encoding="utf-8") == text, "run `python -m memcalc.cli.generate`"


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", "llama 3.1 8b", "llama3.1:8b", "gpt2-small"]
)
def test_a_name_opens_no_other_preset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = catalogue.read_text

    def watched(path: str, limit: int) -> str:
        opened.append(path)
        return read(path, limit)

    monkeypatch.setattr(catalogue, "read_text", watched)
    read_model(name)
    assert len(opened) == 1


def test_the_list_of_models_reads_users_own_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    mine = Path(find_preset("models", "gpt2")).read_text(encoding="utf-8").replace('"GPT-2', '"Mine, GPT-2')
    (tmp_path / "models" / "gpt2.toml").write_text(mine, encoding="utf-8")
    opened: list[str] = []
    read = catalogue.read_text
    monkeypatch.setattr(catalogue, "read_text", lambda path, limit: (opened.append(path), read(path, limit))[1])
    rows = {row["id"]: row for row in model_facts([str(tmp_path)])}
    assert rows["gpt2"]["name"].startswith("Mine")
    assert [*rows] == preset_names("models")
    assert opened == [str(tmp_path / "models" / "gpt2.toml")]


def test_a_key_that_is_null(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    preset = Path(find_preset("models", "deepseek-v2-lite")).read_text(encoding="utf-8")
    assert 'null = ["q_lora_rank"]' in preset
    place = tmp_path / "models" / "mine.toml"
    for wrong in ('"kv_lora_rank"', "1"):
        place.write_text(preset.replace('"q_lora_rank"', wrong, 1), encoding="utf-8")
        with pytest.raises(InputError, match=r"null: must list keys that \[architecture\] does not have"):
            read_model("mine", [str(tmp_path)])


@pytest.fixture
def names() -> NameIndex:
    return names_of({
        "alpha-3.1-8b": ["alpha-8b"], "alpha-3.1-70b": [], "beta-next-80b-a3b": [], "gamma-9b": [], "gamma-9b-it": [],
        "delta-oss-20b": [], "alpha-3.2-11b-vision": [],
    })  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Alpha-3.1-8B-Instruct", ["alpha-3.1-8b"]),
        ("alpha8b", ["alpha-8b"]),
        ("gamma-9b", ["gamma-9b"]),  # the whole name goes before one that is the same without "it"
        ("Gamma_9B_it", ["gamma-9b-it"]),
        ("Gamma-9B-Chat", ["gamma-9b"]),
        ("deltaoss-20b", ["delta-oss-20b"]),
        ("alpha-3.2-vision-11b", ["alpha-3.2-11b-vision"]),
        ("beta-next", ["beta-next-80b-a3b"]),
        ("alpha-3.1", ["alpha-3.1-8b", "alpha-3.1-70b"]),
        ("alpha-3.18b", []),  # not 3.1 8B
        ("beta-next-80b-a3b-pruned", []),
    ],
)
def test_what_a_spelling_names(names: NameIndex, text: str, found: list[str]) -> None:
    assert sorted(named(text, names, beginnings=True)) == sorted(name.replace("alpha-8b", "alpha-3.1-8b") for name in found)


def test_the_beginning_of_a_hub_id_is_not_enough(names: NameIndex) -> None:
    assert named("beta-next", names) == []
    with pytest.raises(InputError, match=r"did you mean qwen3-next-80b-a3b"):
        read_model("Qwen/Qwen3-Next")
    assert read_model("qwen3-next").name == read_model("qwen3-next-80b-a3b").name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("llama 3.1 9b", "did you mean llama-3.1-8b"),  # by meaning: the family and its version, then the size
        ("llama", r"'llama' names \d+ models: .* and \d+ more; give one of them"),
        ("deepseek-r1:9b", "did you mean deepseek-r1"),
    ],
)
def test_what_is_no_name_is_told_the_nearest_or_all_it_may_be(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_model(text)


def test_the_nearest_by_meaning(names: NameIndex) -> None:
    assert alike("alpha-3.1-9b", names)[0] == "alpha-3.1-8b"
    assert alike("unheard-of", names) == []
