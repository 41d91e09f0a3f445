"""What can go wrong, in words for people.

MemcalcError
├── InputError      a value, an option or a file is wrong: say where, what was found, what is accepted
├── Several         of a file, all that is wrong with it: one line each
├── Unwritable      the answer cannot be written where it should go
└── Unsupported     well-formed, but not modelled yet: a refusal is better than a wrong number

The command line prints `str(error)` as one line on stderr and exits with 2.
"""

import re
from collections.abc import Iterable


class MemcalcError(Exception):
    """An error that a user can act on; its message is one complete line."""


class InputError(MemcalcError):
    """Something the user gave is wrong. `place` is the option, or the file and key."""

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)


class Problem(InputError):
    """Something is wrong in one line of a file. `what` is the message without its place."""

    def __init__(self, what: str, file: str, line: int, scenario: str = "") -> None:
        self.what, self.file, self.line, self.scenario = what, file, line, scenario
        super().__init__(what, place=f"{file}:{line}" + f": {scenario}" * bool(scenario))


class Several(InputError):
    """All that is wrong with some files; each is a line of its own."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Unwritable(MemcalcError):
    """The answer cannot be written where it should go; `reason` is the system's."""

    def __init__(self, reason: object, *, place: str = "stdout") -> None:
        super().__init__(f"{place}: cannot be written ({reason})")


class Unsupported(MemcalcError):
    """A valid request that memcalc cannot answer correctly, so it does not answer at all."""


LONGEST_WORD = 200  # characters; longer ones are cut where they are shown


def printable(text: str, longest: int = LONGEST_WORD) -> str:
    """Foreign text made safe to show: what is no printable character (controls, marks that turn the direction of writing,
    lone surrogates) as its escape, and words of more than `longest` characters cut.

    >>> printable("as it is"), printable("\\x1b[31mred \\u202e"), printable("ab abcdef", longest=4)
    ('as it is', '\\\\x1b[31mred \\\\u202e', 'ab abcd…')
    """
    if len(text) > longest:
        text = re.sub(rf"(\S{{{longest}}})\S+", r"\1…", text)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def one_line(text: str, most: int = 300) -> str:
    """Foreign text made safe for one line of a terminal.

    >>> one_line("as it is"), one_line("\\x1b[31m"), one_line("abcd", most=2)
    ('as it is', "'\\\\x1b[31m'", 'ab…')
    """
    shown = text if len(text) <= most else f"{text[:most]}…"
    return shown if shown.isprintable() else repr(shown)


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence naming the closest matches for a misspelt name, or nothing when none is close.

    >>> nearest("adamv", ["adam", "adamw", "lion"])
    '; did you mean adam or adamw?'
    >>> nearest("zzz", ["adam"])
    ''
    """
    from difflib import get_close_matches  # only when something is wrong already

    spelled = {candidate.lower(): candidate for candidate in known}
    matches = [spelled[found] for found in get_close_matches(name.lower(), spelled, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(matches)}?" if matches else ""
