"""Names of what there is. One by its name: read_model, accelerator, training_run, number_format, optimizer, law."""

from collections.abc import Sequence

from memcalc.readers.catalogue import preset_names


def models(presets: Sequence[str] = ()) -> list[str]:
    """Names of model presets; `presets` are the user's own folders."""
    return preset_names("models", presets)


def gpus(presets: Sequence[str] = ()) -> list[str]:
    """Names of accelerators.

    >>> "h100-sxm-80" in gpus()
    True
    """
    return preset_names("gpus", presets)


def runs(presets: Sequence[str] = ()) -> list[str]:
    """Names of published training runs."""
    return preset_names("runs", presets)


def formats() -> list[str]:
    """Names of number formats."""
    from memcalc.dtypes import FORMATS

    return [row.name for row in FORMATS]


def optimizers() -> list[str]:
    """Names of optimizers."""
    from memcalc.formulas.optimizer_table import OPTIMIZERS

    return list(OPTIMIZERS)


def engines() -> list[str]:
    """Names of training engines."""
    from memcalc.formulas.engines import ENGINES

    return list(ENGINES)


def serving_engines() -> list[str]:
    """Names of serving engines."""
    from memcalc.formulas.serving_engines import SERVING_ENGINES

    return list(SERVING_ENGINES)


def laws() -> list[str]:
    """Names of scaling laws.

    >>> laws()[0]
    'besiroglu'
    """
    from memcalc.formulas.scaling_laws import LAWS

    return list(LAWS)
