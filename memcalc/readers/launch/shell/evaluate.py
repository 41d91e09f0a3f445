"""Built-in commands and substitutions whose outcome the text itself determines."""

import re
from collections.abc import Sequence

from memcalc.readers.launch.shell.expand import Scope, Variables, split

UNKNOWN = re.compile(r"\$[({`]")  # an expansion that nobody could answer
TAKE_A_VALUE = ("d", "n", "N", "p", "t", "u", "i", "a")  # options of `read`
PIPED = re.compile(r"echo\s+(?P<text>(?:\"[^\"]*\"|[^|;&<>])*?)\s*\|(?P<filters>[^;&<>]*)$", re.DOTALL)
FILTER = re.compile(
    r"\s*(tr\s+(-s\s+)?['\"](\\\\?n|\s|\[:space:\])+['\"](\s+['\"]\s*['\"])?|xargs|sed\s+(-E\s+)?['\"]s/[ \\+*s^$()|]*/ "
    r"?/g?['\"])\s*"
)


def read_into(variables: Variables, words: Sequence[str], text: str | None, separators: str) -> None:
    """`read`: a text, split at `separators`, into the variables that its words name; None: nobody knows what is read.

    >>> found = {}
    >>> read_into(found, ["-r", "TP", "PP", "REST"], "2,1,8,1", ",")
    >>> found
    {'TP': '2', 'PP': '1', 'REST': '8,1'}
    """
    names: list[str] = []
    whole = array = ""
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            names.append(word)
        elif word[-1:] in TAKE_A_VALUE:
            value = left.pop(0) if left else ""
            whole = "whole" if word[-1] == "d" and value == "" else whole
            array = value if word[-1] == "a" else array
    if text is None or UNKNOWN.search(text):
        for name in (*names, *([array] if array else [])):
            variables.pop(name, None)
        return
    line = text if whole else text.partition("\n")[0]
    blank = set(separators) <= set(" \t\n")
    if array:
        variables[array] = [part for part in re.split(f"[{re.escape(separators)}]{'+' if blank else ''}", line) if part]
        return
    if len(names) == 1:
        variables[names[0]] = line.strip(" \t\n")
        return
    fields = re.split(f"[{re.escape(separators)}]{'+' if blank else ''}", line.strip(" \t\n"), maxsplit=max(len(names) - 1, 0))
    for name, value in zip(names, [*fields, *[""] * len(names)], strict=False):
        variables[name] = value


def substituted(text: str, scope: Scope) -> str | None:
    """What $( … ) gives, where the text says it."""
    stripped = text.strip()
    if not stripped or stripped.startswith("#"):
        return ""
    if stripped.startswith("expr "):
        return scope.sum(scope.inside(stripped[5:]).replace("\\", "")) or None
    if re.match(r"(cd\b.*&&\s*)?pwd\b", stripped) or re.match(r"(dirname|realpath|readlink)\b", stripped):
        return "."
    if stripped.startswith("echo ") and not re.search(r"[|;&]", stripped):
        return " ".join(split(scope.inside(stripped[5:])))
    if stripped.startswith("basename ") and not re.search(r"[|;&]", stripped):
        words = split(scope.inside(stripped[9:]))
        return words[0].rstrip("/").rpartition("/")[2] if words else None
    counted = re.match(r"echo\s+[\"']?\$\{?(\w+)\}?[\"']?\s*\|\s*(?:tr|awk|grep).*", stripped)
    if counted and re.search(r"wc -[lw]|NF|print NF", stripped) and isinstance(scope.variables.get(counted[1]), str):
        return str(len([part for part in str(scope.variables[counted[1]]).split(",") if part]))
    piped = PIPED.match(stripped)
    if piped and all(FILTER.fullmatch(each) for each in piped["filters"].split("|")):  # filters of blanks alone
        return " ".join(split(scope.inside(piped["text"].strip().strip('"'))))
    return None
