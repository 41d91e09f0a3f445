"""Frozen dataclasses whose classes cost little to make.

`dataclasses` compiles six methods for each class, half a millisecond that every command would pay for some twenty classes. Here
all classes share the methods, so that nothing is compiled; fields, `replace` and the rest of `dataclasses` work as ever.
"""

from typing import TYPE_CHECKING

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
            raise TypeError(_misfit(cls, values, named))

    def _misfit(cls, values, named):
        """What is wrong with the values that a class was called with."""
        if len(values) > len(cls._positional):
            return f"{cls.__name__} takes at most {len(cls._positional)} values by position, not {len(values)}"
        given = cls._positional[: len(values)]
        if twice := [name for name in named if name in given]:
            return f"{cls.__name__} got {', '.join(twice)} twice"
        if unknown := [name for name in named if name not in cls._names]:
            return f"{cls.__name__} has no {', '.join(unknown)}"
        missing = [name for name in cls._names if name not in {*cls._defaults, *given, *named}]
        return f"{cls.__name__} needs {', '.join(missing)}"

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
