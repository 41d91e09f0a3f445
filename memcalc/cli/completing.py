"""What a shell completes beside names of commands and options: models, GPUs, optimizers, engines."""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from memcalc.errors import MemcalcError


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Presets, and files: a model may be one."""
    found = _beginning(_models, incomplete)
    return found or [CompletionItem(incomplete, type="file")]


def words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Of an option: the words that it takes, or the names that it looks up."""
    choices: tuple[tuple[str, str], ...] = getattr(param, "choices", ())
    if choices:
        return [CompletionItem(word, help=what) for word, what in choices if word.startswith(incomplete)]
    serves = ctx.info_name == "infer"
    names = {"optimizer": _optimizers, "engine": _serving_engines if serves else _engines, "gpu": _gpus, "draft": _models}
    return _beginning(names[param.name], incomplete) if param.name in names else []


def _beginning(names: Callable[[], Iterable[str]], incomplete: str) -> list[CompletionItem]:
    """Silent where a folder of presets is wrong: a shell is being typed into."""
    try:
        return [CompletionItem(name) for name in names() if name.startswith(incomplete.lower())]
    except MemcalcError:
        return []


def _models() -> Iterable[str]:
    from memcalc.readers.catalogue import preset_names

    return preset_names("models")


def _gpus() -> Iterable[str]:
    from memcalc.readers.catalogue import preset_names

    return preset_names("gpus")


def _optimizers() -> Iterable[str]:
    from memcalc.formulas.optimizer_table import OPTIMIZERS

    return OPTIMIZERS


def _engines() -> Iterable[str]:
    from memcalc.formulas.engines import ENGINES

    return ENGINES


def _serving_engines() -> Iterable[str]:
    from memcalc.formulas.serving_engines import SERVING_ENGINES

    return SERVING_ENGINES
