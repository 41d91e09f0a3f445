"""The command line's options are the fields of the specs."""

import click
import pytest

from memcalc.cli import cli
from memcalc.cli.amounts import TYPES
from memcalc.cli.generate import SPECS, TARGET, _type, rows, text
from memcalc.specs.spec import OneOf

OF_COMMANDS = {"train": ("Parallelism", "Training"), "infer": ("Serving",), "budget": ("Budget",),
               "chinchilla": ("ScalingQuestion",)}  # fmt: skip


def test_the_written_rows_are_those_of_the_specs() -> None:
    assert TARGET.read_text(encoding="utf-8") == text(), "run `python -m memcalc.cli.generate`"


@pytest.mark.parametrize("command", OF_COMMANDS)
def test_every_field_has_its_option(command: str) -> None:
    specs = {spec.__name__: spec for spec in SPECS}
    found = cli.get_command(click.Context(cli, **cli.context_settings), command)
    assert found is not None
    options = {option.name: option for option in found.params}
    for spec in OF_COMMANDS[command]:
        for name, kind, _, meaning, _, choices in rows(specs[spec]):
            assert kind in TYPES, name
            assert options[name].help == meaning  # type: ignore[attr-defined]
            assert options[name].choices == choices  # type: ignore[attr-defined]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_choices_and_defaults_are_said_in_full(spec: type) -> None:
    said = {
        name: f"{metavar} {meaning} {' '.join(word for word, _ in choices)}"
        for name, _, metavar, meaning, _, choices in rows(spec)
    }
    for name, field in spec.model_fields.items():  # type: ignore[attr-defined]
        if name not in said:
            continue
        assert "…" not in said[name]
        for rule in field.metadata:
            if isinstance(rule, OneOf):
                assert not [choice for choice in rule.names if choice not in said[name]], said[name]
        if field.default is not None and "default: " not in said[name]:
            pytest.fail(f"{name} does not say its default {field.default!r}")


def test_what_can_be_listed_is_listed() -> None:
    said = {name: (metavar, meaning) for spec in SPECS[:2] for name, _, metavar, meaning, *_ in rows(spec)}
    assert said["zero"] == ("0|1|2|3", "DeepSpeed ZeRO stage.  [default: no ZeRO]")
    assert said["freeze"][1].endswith("What is not trained.  [default: none]")
    assert said["lora_dropout"][1].endswith("[default: 0]")
    assert said["ddp"][1].endswith("[default: off]")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_every_word_of_a_choice_has_its_meaning(spec: type) -> None:
    """Where a field explains its words, it explains all of them."""
    for name, *_, choices in rows(spec):
        if choices:
            field = spec.model_fields[name]  # type: ignore[attr-defined]
            accepted = _type(field.annotation, field.metadata)[1]
            assert [word for word, _ in choices] == list(accepted), name
            assert all(meaning for _, meaning in choices)
