"""Sizing files: where each setting stands, models × gpus, all errors at once."""

import pytest

from memcalc.errors import InputError, Several
from memcalc.readers.sizing import MAX_SCENARIOS, read_sizing
from memcalc.readers.toml_lines import lines_of

FILE = '''\
models = ["gpt2", "7B"]
gpus = ["h100", "a100"]
[training]
micro_batch = 1
note_of_many_lines = """
[limits]
verdict = 3
"""
[limits]
verdict = "fits"
[scenario.one]
[scenario."two three"]
model = "gpt2"
training = { micro_batch = 2 }
'''


def test_lines_of_keys_and_tables():
    found = lines_of(FILE)
    assert (found["limits"], found["limits.verdict"], found["scenario.two three.training"]) == (9, 10, 14)


def test_each_model_on_each_gpu_unless_a_scenario_names_its_own():
    text = FILE.replace("note_of_many_lines", "# ").replace('"""', "#").replace("[limits]\nverdict = 3\n", "", 1)
    found = read_sizing("a.toml", text)
    assert [(each.name, each.scenario.model, each.scenario.gpu) for each in found] == [
        ("one / gpt2 / h100", "gpt2", "h100"), ("one / gpt2 / a100", "gpt2", "a100"),
        ("one / 7B / h100", "7B", "h100"), ("one / 7B / a100", "7B", "a100"),
        ("two three / h100", "gpt2", "h100"), ("two three / a100", "gpt2", "a100"),
    ]  # fmt: skip
    assert found[0].places.line("limits.verdict") == found[-1].places.line("limits.verdict") == 8
    assert found[0].places.line("training.micro_batch") == 4
    assert found[-1].places.line("training.micro_batch") == 12
    assert [each.name for each in read_sizing("a.toml", text, "TWO")] == ["two three / h100", "two three / a100"]


def test_all_that_is_wrong_once_each():
    text = FILE.replace('verdict = "fits"', 'verdict = "fitz"').replace("{ micro_batch = 2 }", "{ micro_batch = 0 }")
    with pytest.raises(Several) as caught:
        read_sizing("a.toml", text)
    found = [(problem.line, problem.what.partition(":")[0]) for problem in caught.value.problems]
    assert found == [(5, "training.note_of_many_lines"), (10, "limits.verdict"), (14, "training.micro_batch")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models = 3", "a.toml:1: models: must be a list of names"),
        ("models = []", "models: must be a list of names"),
        ('gpu = "h100"\nmodels = ["a"]\ngpus = ["b"]', "a.toml:3: gpus: gpu is given too"),
        (f"models = {[str(i) for i in range(99)]}\ngpus = {[str(i) for i in range(99)]}", "are 9,801 scenarios"),
        (f'models = {[str(i) for i in range(MAX_SCENARIOS)]}\n[scenario.a]\n[scenario.b]', "more than 1000 scenarios"),
    ],
)  # fmt: skip
def test_a_matrix_is_bounded_lists_of_names(text, message):
    with pytest.raises(InputError, match=message):
        read_sizing("a.toml", text)
