"""Frozen dataclasses and named tuples whose classes cost little to make.

`dataclasses` compiles six methods for each class, half a millisecond that every command would pay for some twenty classes, and
`typing.NamedTuple` a constructor, a fifteenth of one for each of a hundred. Here all classes share their methods, so that
nothing is compiled; fields, `replace` and the rest work as ever.
"""

import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any


def _misfit(
    cls: type,
    positional: tuple[str, ...],
    defaults: Mapping[str, Any],
    values: tuple[Any, ...],
    named: Mapping[str, Any],
    names: Collection[str] = (),
) -> str:
    """What is wrong with the values that a class was called with; `names`: all fields, where some go by name alone."""
    if len(values) > len(positional):
        return f"{cls.__name__} takes at most {len(positional)} values by position, not {len(values)}"
    given = positional[: len(values)]
    if twice := [name for name in named if name in given]:
        return f"{cls.__name__} got {', '.join(twice)} twice"
    if unknown := [name for name in named if name not in (names or positional)]:
        return f"{cls.__name__} has no {', '.join(unknown)}"
    missing = [name for name in names or positional if name not in {*defaults, *given, *named}]
    return f"{cls.__name__} needs {', '.join(missing)}"


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses
    from operator import attrgetter

    def dataclass(*, frozen=True, eq=True, repr=True, kw_only=False):
        """As the library's; frozen is the only kind there is."""
        if not frozen:
            raise TypeError("a class that changes is dataclasses.dataclass's")

        def decorate(cls):
            cls = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)
            cls.__init__, cls.__setattr__, cls.__delattr__ = _init, _assign, _delete
            fields = dataclasses.fields(cls)
            cls._names = dict.fromkeys(field.name for field in fields).keys()
            cls._defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
            cls._positional = tuple(field.name for field in fields if not field.kw_only)
            if eq:
                cls._values = attrgetter(*cls._names)
                cls.__eq__, cls.__hash__ = _equal, _hash
            if repr:
                cls.__repr__ = _text
            return cls

        return decorate

    def _init(self, /, *values, **named):
        cls, found = type(self), self.__dict__
        found.update(cls._defaults)
        found.update(zip(cls._positional, values, strict=False))
        found.update(named)
        if (
            found.keys() != cls._names
            or len(values) > len(cls._positional)
            or not named.keys().isdisjoint(cls._positional[: len(values)])
        ):
            raise TypeError(_misfit(cls, cls._positional, cls._defaults, values, named, cls._names))

    def _assign(self, name, value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _delete(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _equal(self, other):
        return self._values(self) == self._values(other) if type(self) is type(other) else NotImplemented

    def _hash(self):
        return hash(self._values(self))

    def _text(self):
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._names)})"


if TYPE_CHECKING or sys.version_info >= (3, 14):  # whose annotations are not in a class's body
    from typing import NamedTuple as NamedTuple
else:
    from collections import _tuplegetter, namedtuple

    OFTEN = 64  # constructions after which a class gets a constructor of its own, which takes a third of the time

    class _NamedTupleMeta(type):
        def __new__(mcs, name, bases, body):
            if bases == (tuple,) or NamedTuple not in bases:  # itself, and what inherits from a class of named tuples
                return super().__new__(mcs, name, bases, body)
            names = tuple(body.get("__annotations__", ()))
            body |= {
                "__slots__": (),
                "_fields": names,
                "__match_args__": names,
                "_field_defaults": {field: body[field] for field in names if field in body},
                "_left": OFTEN,
            }
            body |= {field: _tuplegetter(place, None) for place, field in enumerate(names)}
            return super().__new__(mcs, name, bases, body)

    class NamedTuple(tuple, metaclass=_NamedTupleMeta):
        """As typing's."""

        __slots__ = ()

        def __new__(cls, /, *values, **named):
            owner = next(base for base in cls.__mro__ if "_fields" in vars(base))
            owner._left -= 1
            if not owner._left:
                defaults = owner._field_defaults.values()
                owner.__new__ = namedtuple(owner.__name__, owner._fields, defaults=defaults).__new__
            if named or len(values) != len(cls._fields):
                values = _complete(cls, values, named)
            return tuple.__new__(cls, values)

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, /, **changes):
            if unknown := changes.keys() - set(self._fields):
                raise ValueError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
            return tuple.__new__(type(self), map(changes.get, self._fields, self))

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"

    def _complete(cls, values, named):
        """The values in the order of the fields, defaults for those that are not given."""
        rest = cls._fields[len(values) :]
        found = cls._field_defaults | named
        if len(values) > len(cls._fields) or not named.keys() <= set(rest) or not found.keys() >= set(rest):
            raise TypeError(_misfit(cls, cls._fields, cls._field_defaults, values, named))
        return (*values, *[found[name] for name in rest])
