"""What was said, however it was said, as one flat mapping; and what a setting needs beside it."""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeVar

from memcalc.caches import cached
from memcalc.errors import nearest
from memcalc.frozen import NamedTuple
from memcalc.specs.spec import OneOf, Spec, SpecError, choices

Settings = Mapping[str, Any]


class Need(NamedTuple):
    """Settings that mean nothing without another: whether what was said has it, and what to add where it has not."""

    settings: tuple[str, ...]
    met: Callable[[Settings], bool]
    message: str


def given(spec: Spec) -> dict[str, Any]:
    """What a spec was given, by field."""
    return {name: getattr(spec, name) for name in spec.model_fields_set}


def settled(
    run: Spec | None,
    settings: Settings,
    spec: type[Spec],
    tables: Mapping[str, type[Spec]] | None = None,
    also: Iterable[str] = (),
) -> dict[str, Any]:
    """What was said, flat: the fields of `run` (a spec, or nothing), then `settings`, which go before them.

    `tables` are the fields of `spec` that hold specs themselves, and whose fields may stand beside its own; `also` are further
    names. None stands for what was not said. A name that nothing has is refused with the nearest that there is.
    """
    tables = tables or {}
    if run is not None and not isinstance(run, spec):
        raise SpecError(f"must be a {spec.__name__}, not {run!r:.40}", "run")
    known = [name for cls in (spec, *tables.values()) for name in cls.model_fields if name not in tables]
    out: dict[str, Any] = {}
    for source in (given(run) if run is not None else {}, settings):
        flat = {name: value for name, value in source.items() if name not in tables}
        for name, cls in tables.items():
            nested = _table(name, source.get(name), cls)
            _check_names(nested, cls.model_fields)
            out |= nested
        _check_names(flat, (*known, *also))
        out |= {name: tuple(value) if isinstance(value, list) else value for name, value in flat.items()}
    names = _names((spec, *tables.values()))
    return {name: _meant(name, value, names) for name, value in out.items() if value is not None}


@cached(64)
def _names(specs: tuple[type[Spec], ...]) -> dict[str, OneOf]:
    """What the fields accept that take one of some names."""
    return {name: rule for spec in specs for name, rule in choices(spec).items()}


def _meant(name: str, value: Any, names: Mapping[str, OneOf]) -> Any:
    """A value in our own spelling."""
    if isinstance(value, tuple):
        return tuple(_meant(name, entry, names) for entry in value)
    return names[name].spelled(name, value) if name in names else value


S = TypeVar("S", bound=Spec)


def taken(settings: MutableMapping[str, Any], spec: type[S]) -> S:
    """The spec whose fields stand among other settings, which are left without them."""
    values = {name: settings.pop(name) for name in spec.model_fields if name in settings}
    said = {name: value for name, value in values.items() if value is not None}
    return spec(**said) if said else spec.model_construct()  # of nothing: no validator need be built


def check_needs(said: Settings, needs: Iterable[Need]) -> None:
    """Refuse what was said without what it needs."""
    for need in needs:
        for name in need.settings:
            if name in said and not need.met(said):
                raise SpecError(need.message, name)


def _table(name: str, value: Any, cls: type[Spec]) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if value is None or isinstance(value, cls):
        return given(value) if value is not None else {}
    raise SpecError(f"must be a table of settings or a {cls.__name__}, not {value!r:.40}", name)


def _check_names(names: Iterable[str], known: Iterable[str]) -> None:
    accepted = tuple(known)
    for name in names:
        if name not in accepted:
            raise SpecError(f"unknown key{nearest(str(name), accepted)}", str(name))
