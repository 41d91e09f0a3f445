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
            cls._all_fields = {field.name: field for field in dataclasses.fields(cls)}
            cls._defaults = {name: f.default for name, f in cls._all_fields.items() if f.default is not dataclasses.MISSING}
            cls._positional = tuple(name for name, field in cls._all_fields.items() if not field.kw_only)
            if eq:
                cls._values = attrgetter(*cls._all_fields)
                cls.__eq__, cls.__hash__ = _equal, _hash
            if repr:
                cls.__repr__ = _text
            return cls

        return decorate

    def _init(self, /, *values, **named):
        cls = type(self)
        if len(values) > len(cls._positional):
            raise TypeError(f"{cls.__name__} takes at most {len(cls._positional)} values by position, not {len(values)}")
        given = dict(zip(cls._positional, values, strict=False))
        if twice := given.keys() & named.keys():
            raise TypeError(f"{cls.__name__} got {', '.join(sorted(twice))} twice")
        found = cls._defaults | given | named
        if len(found) != len(cls._all_fields) or found.keys() != cls._all_fields.keys():
            missing = [name for name in cls._all_fields if name not in found]
            what = f"needs {', '.join(missing)}" if missing else f"has no {', '.join(found.keys() - cls._all_fields.keys())}"
            raise TypeError(f"{cls.__name__} {what}")
        self.__dict__.update(found)

    def _assign(self, name, value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _delete(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _equal(self, other):
        return self._values(self) == self._values(other) if type(self) is type(other) else NotImplemented

    def _hash(self):
        return hash(self._values(self))

    def _text(self):
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._all_fields)})"
