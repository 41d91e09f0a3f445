"""Words of a command line → entries: options with their values, Hydra's key=value, and what stands alone."""

import re
from collections.abc import Sequence

from memcalc.readers.launch.nodes import Entry
from memcalc.readers.launch.shell.expand import split
from memcalc.readers.launch.shell.run import Word
from memcalc.readers.launch.values import NUMBER

OPTION = re.compile(r"--?[A-Za-z_][\w.@-]*")
HYDRA = re.compile(r"[+~]{0,2}([A-Za-z_][\w.@/-]*)=(.*)$", re.DOTALL)
SPACED = re.compile(r"--[A-Za-z][\w-]*\s+\S")  # an option and its value in one pair of quotes
EMPTY = ("true",)


def options(words: Sequence[Word], file: str) -> tuple[list[Entry], list[Word]]:
    """Entries in order, and positional words. An option without a value is "true"."""
    words = [Word(text, word.line) for word in words for text in (split(word.text) if SPACED.match(word.text) else [word.text])]
    out: list[Entry] = []
    alone: list[Word] = []
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        key, equals, value = word.text.partition("=")
        if OPTION.fullmatch(key):
            values = [value] if equals else []
            while (
                not equals and index < len(words) and not _begins(words[index].text) and not _enough(values, words[index].text)
            ):
                values.append(words[index].text)
                index += 1
            name = key.lstrip("-")
            out.append(Entry(name, values if len(values) > 1 else values[0] if values else EMPTY[0], word.line, file))
        elif found := HYDRA.match(word.text):
            out.append(Entry(found[1], found[2].strip("'\""), word.line, file))
        elif word.text not in ("--", "\\"):
            alone.append(word)
    return out, alone


def _enough(values: Sequence[str], text: str) -> bool:
    """Whether a word stands alone behind an option's value: a number takes no words after it, and key=value is an item "
    "itself."""
    return bool(values) and (bool(HYDRA.match(text)) or (bool(NUMBER.match(values[0])) and not NUMBER.match(text)))


def _begins(text: str) -> bool:
    """Whether a word is an option of its own; -1 and -0.5 are values."""
    found = OPTION.match(text)
    return (
        (bool(found) and " " not in text.partition("=")[0])
        or text == "--"
        or (bool(HYDRA.match(text)) and "." in text.partition("=")[0])
    )
