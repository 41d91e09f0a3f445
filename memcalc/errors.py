"""What can go wrong, in words for people.

MemcalcError
├── InputError      a value, an option or a file is wrong: say where, what was found, what is accepted
└── Unsupported     well-formed, but not modelled yet: a refusal is better than a wrong number

The command line prints `str(error)` as one line on stderr and exits with 2.
"""

from collections.abc import Iterable


class MemcalcError(Exception):
    """An error that a user can act on; its message is one complete line."""


class InputError(MemcalcError):
    """Something the user gave is wrong. `place` is the option, or the file and key."""

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)


class Unsupported(MemcalcError):
    """A valid request that memcalc cannot answer correctly, so it does not answer at all."""


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
