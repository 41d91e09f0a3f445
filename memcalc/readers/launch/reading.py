"""Entries of a file, through a reader's table, become facts; no entry is dropped."""

from collections.abc import Iterable, Mapping

from memcalc.errors import one_line
from memcalc.frozen import NamedTuple
from memcalc.readers.launch.doubts import IDLE as OFF
from memcalc.readers.launch.facts import FACTS, Fact, Facts
from memcalc.readers.launch.meanings import By, Coded, Doubtful, Ignored, Imported, KeyTable, Meaning, Unmodelled, meaning_of
from memcalc.readers.launch.nodes import Entry, Value
from memcalc.readers.launch.values import FALSE, NOTHING, Read, Unreadable, read, unresolved


class Reading(NamedTuple):
    """Facts of one launch, and what became of every key."""

    facts: Facts
    imported: list[Imported]

    def default(self, why: str, **values: Read) -> None:
        """What a tool does where its file says nothing."""
        left_open = {row.about for row in self.imported}  # said, by a variable that nobody sets: no default of anybody's
        for name, value in values.items():
            if name not in left_open:
                self.facts.setdefault(name, Fact(value, None, why))

    def default_optimizer(self, why: str) -> None:
        """transformers' optimizer, and how its step runs, where no file names one."""
        if "optimizer" not in self.facts:
            self.default(why, optimizer="adamw_torch_fused", optimizer_impl="fused")

    def stage(self) -> None:
        """The strategy that a ZeRO stage is."""
        if "zero_stage" in self.facts:
            self.follow("strategy", f"zero-{self.facts['zero_stage'].value}", "zero_stage")

    def says(self, name: str, *values: Read) -> bool:
        """Whether a fact is there with one of these values; with none named, whether it is there."""
        return name in self.facts and (not values or self.facts[name].value in values)

    def follow(self, name: str, value: Read, *from_: str) -> None:
        """A fact that follows from others."""
        if name not in self.facts:
            known = {each: self.facts[each].entry for each in from_ if each in self.facts}
            because = ", ".join(f"{each} ({entry.place})" if entry else each for each, entry in known.items())
            self.facts[name] = Fact(value, None, f"from {because}" if because else "as its keys say")


ADDING = ("offload", "freeze")  # facts that several keys add to


def read_entries(entries: Iterable[Entry], *tables: KeyTable, switch: str = "") -> Reading:
    """Each entry by the first table that has its key; the last of two entries wins, as it does in every tool.

    `switch`: the key that switches off what stands beside and below it.
    """
    out, listed = Reading({}, []), list(entries)
    off = tuple(entry.key.removesuffix(switch) for entry in listed if switch and _is_off(entry, switch))
    for entry in listed:
        switched = off and entry.key.startswith(off) and not _is_off(entry, switch)
        take(out, entry, Ignored("is switched off") if switched else meaning_of(entry.key, *tables))
    return out


def _is_off(entry: Entry, switch: str) -> bool:
    return entry.key.endswith(f".{switch}") and str(entry.value).strip().lower() in FALSE


def take(out: Reading, entry: Entry, meaning: Meaning | None) -> None:
    """One entry, in the meaning that a table gives it."""
    if meaning is None:
        out.imported.append(Imported(entry, unknown="a key that is not known"))
        return
    if isinstance(meaning, Ignored):
        out.imported.append(Imported(entry, ignored=meaning.why))
        return
    if isinstance(meaning, Doubtful):
        idle = isinstance(entry.value, str | None) and (entry.value or "").strip().lower() in OFF
        out.imported.append(Imported(entry, ignored="is off") if idle else Imported(entry, unknown="a key that is not known"))
        return
    if isinstance(meaning, Unmodelled):
        idle = isinstance(entry.value, str | None) and (entry.value or "").strip().lower() in meaning.harmless
        out.imported.append(
            Imported(entry, ignored="is off") if idle else Imported(entry, unknown=f"not modelled: {meaning.why}", matters=True)
        )
        return
    if missing := unresolved(entry.value):
        what = f"{missing} is not set in the file"
        out.imported.append(Imported(entry, unknown=what, matters=True, about=_about(meaning)))
        return
    try:
        found = _facts(entry.value, meaning)
    except ValueError as error:
        why = error if isinstance(error, Unreadable) else "is no number"
        what = f"{one_line(str(entry.value), 60)} {why}"
        out.imported.append(Imported(entry, unknown=what, matters=True, about=_about(meaning)))
        return
    if not found:
        out.imported.append(Imported(entry, ignored="says nothing"))
        return
    for name, value in found.items():
        old = out.facts.get(name)
        if name in ADDING and old and isinstance(old.value, list) and isinstance(value, list):
            value = [*dict.fromkeys((*old.value, *value))]
        out.facts[name] = Fact(value, entry)
    out.imported.append(Imported(entry, tuple(found)))


def _about(meaning: "str | Coded | By") -> str:
    """The fact that a key says, whatever its value."""
    return meaning if isinstance(meaning, str) else meaning.fact if isinstance(meaning, Coded) else meaning.says


def _facts(value: Value, meaning: "str | Coded | By") -> Mapping[str, Read]:
    """What a value says, in our words; nothing where it is null."""
    if isinstance(meaning, By):
        nothing = isinstance(value, str | None) and (value or "").strip().lower() in NOTHING
        return {} if nothing else meaning.facts(value)
    if isinstance(value, str | None) and (value or "").strip().lower() in NOTHING:
        empty = isinstance(meaning, Coded) and (value or "").lower() in meaning.words
        if not empty and not (isinstance(meaning, str) and FACTS[meaning].kind == "word" and value):
            return {}
    if isinstance(meaning, Coded):
        key = " ".join(value) if isinstance(value, list) else value or ""
        plain = key.strip().strip("'\"").lower().replace("-", "_")
        for word in (plain, "*"):
            if word in meaning.words:
                return {} if meaning.words[word] == "" else {meaning.fact: meaning.words[word]}
        raise Unreadable(f"is not one of {', '.join(meaning.words)}")
    return {meaning: read(FACTS[meaning].kind, value)}
