"""Variables, arrays and the few substitutions that a text determines by itself."""

import fnmatch
import re
from collections.abc import Callable

from memcalc.readers.launch.shell.arithmetic import arithmetic
from memcalc.readers.launch.shell.lexer import Quoted

NAME = re.compile(r"\$(\w+|[@*#?$!-])")
BRACES = re.compile(r"(?P<mark>[!#]?)(?P<name>\w+|[@*])(?:\[(?P<index>[^\]]*)\])?(?P<rest>.*)$", re.DOTALL)
NOTHING = ("@", "*")  # what a caller may add, which the file cannot know
MAX_VALUE = 200_000  # characters

Variables = dict[str, str | list[str]]


class Scope:
    """What is assigned so far. `run` answers a command substitution, or None where the text does not determine it."""

    def __init__(self, variables: Variables, run: Callable[[str], str | None]) -> None:
        self.variables, self.run = variables, run
        self.quiet = False  # in a test: what is not set is empty, as it is for a shell

    def words(self, parts: tuple[Quoted, ...]) -> list[str]:
        """One word of the text as the words that it becomes."""
        done: list[str] = [""]
        any_text = False
        for part in parts:
            if part.quote == "'":
                done[-1] += part.text
                any_text = True
            elif part.quote == '"':
                pieces = self._quoted(part.text)
                done[-1] += pieces[0] if pieces else ""
                done += pieces[1:]
                any_text = any_text or bool(pieces) or part.text == ""
            elif part.text[:1] in ("$", "`"):
                found = self._expansion(part.text)
                values = self._unquoted(found)
                leading = isinstance(found, str) and found[:1].isspace() and done[-1] != ""
                if values and not leading:
                    done[-1] += values[0]
                    done += values[1:]
                elif values:
                    done += values
                any_text = any_text or bool(values)
            else:
                done[-1] += part.text
                any_text = True
        total = sum(map(len, done))
        if total > MAX_VALUE:
            return ["${…}"]
        return done if any_text else []

    def _unquoted(self, found: str | list[str]) -> list[str]:
        """An expansion without quotes is split into words, the items of an array too."""
        if isinstance(found, list):
            return [word for item in found for word in (split(item) if item.startswith("-") else [item])]
        return [found] if found and self.quiet else split(found) if found else []

    def text(self, parts: tuple[Quoted, ...]) -> str:
        """One word of the text as one text: an assignment is not split."""
        out = []
        for part in parts:
            if part.quote == "'":
                out.append(part.text)
            elif part.quote == '"':
                out.append(" ".join(self._quoted(part.text)))
            elif part.text[:1] in ("$", "`"):
                found = self._expansion(part.text)
                out.append(" ".join(found) if isinstance(found, list) else found)
            else:
                out.append(part.text)
        return "".join(out)[:MAX_VALUE]

    def inside(self, text: str) -> str:
        """Text with its variables, as between double quotes."""
        return " ".join(self._quoted(text))

    def _quoted(self, text: str) -> list[str]:
        """Between double quotes; only "${array[@]}" becomes several words."""
        out = [""]
        at = 0
        while at < len(text):
            char = text[at]
            if char == "\\" and at + 1 < len(text):
                out[-1] += {"\n": "", "$": "$", "`": "`", '"': '"', "\\": "\\"}.get(text[at + 1], char + text[at + 1])
                at += 2
                continue
            if char in "$`":
                end = _end(text, at)
                raw = text[at:end]
                if end > at + 1:
                    found = self._expansion(raw)
                    whole = raw == text
                    if isinstance(found, list) and "@" in raw:
                        if not found and whole:
                            return []
                        out[-1] += found[0] if found else ""
                        out += found[1:]
                    else:
                        out[-1] += " ".join(found) if isinstance(found, list) else found
                    at = end
                    continue
            out[-1] += char
            at += 1
            if len(out[-1]) > MAX_VALUE:
                break
        return out

    def _expansion(self, raw: str) -> str | list[str]:
        if raw.startswith("$(("):
            return self.sum(raw[3:].removesuffix("))")) or ("" if self.quiet else "".join(raw.split()))
        if raw.startswith(("$(", "`")):
            inner = raw[2:-1] if raw.startswith("$(") else raw[1:-1]
            found = self.run(inner)
            return ("" if self.quiet else "$(" + re.sub(r"[^\w ./=:,-]+", " ", inner[:60]) + ")") if found is None else found
        if raw.startswith("${"):
            return self._braces(raw[2:-1], raw)
        if raw.startswith("$'"):
            return raw[2:-1]
        found_name = NAME.match(raw)
        return self._value(found_name[1], raw) if found_name else raw

    def _value(self, name: str, raw: str) -> str | list[str]:
        if name in NOTHING:
            given = self.variables.get("@", [])
            return given if isinstance(given, list) else [given]
        found = self.variables.get(name)
        if isinstance(found, list):
            return found[0] if found else ""
        if found is None:
            return "" if self.quiet else f"${{{name}}}"
        return found

    def _braces(self, inner: str, raw: str) -> str | list[str]:
        found = BRACES.match(inner)
        if not found:
            return raw
        name, rest, index = found["name"], found["rest"], found["index"]
        value = self.variables.get(name)
        if name in NOTHING:
            value = self.variables.get("@", [])
        if found["mark"] == "#":
            return str(len(value)) if value is not None else raw
        if found["mark"] == "!" and isinstance(value, str):
            value = self.variables.get(value)
        if index in ("@", "*") or name in NOTHING:
            listed = value if isinstance(value, list) else [value] if value else []
            return listed if not rest else [str(item) for item in listed]
        if isinstance(value, list):
            position = index if index and index.isdigit() else "0"
            value = value[int(position)] if int(position) < len(value) else None
        return self._operated(name, value, rest, raw)

    def _operated(self, name: str, value: str | None, rest: str, raw: str) -> str:
        """${NAME:-default} and its like."""
        if rest[:2] in (":-", ":=") or rest[:1] in ("-", "="):
            default = rest[2:] if rest[0] == ":" else rest[1:]
            if value or (value is not None and rest[0] != ":"):
                return value or ""
            chosen = self.inside(default.strip("\"'") if default[:1] == default[-1:] and default[:1] in "\"'" else default)
            if "=" in rest[:2]:
                self.variables[name] = chosen
            return chosen
        if rest[:2] == ":+" or rest[:1] == "+":
            return self.inside(rest.lstrip(":+")) if value else ""
        if rest[:2] == ":?" or rest[:1] == "?" or not rest:
            return value if value is not None else "" if self.quiet else f"${{{name}}}"
        if value is None:
            return "" if self.quiet else f"${{{name}}}"
        return _trimmed(value, rest)

    def sum(self, text: str) -> str:
        """Of numbers and variables; empty where it is none."""

        def number(match: re.Match[str]) -> str:
            found = self.variables.get(match[1])
            return found if isinstance(found, str) and re.fullmatch(r"-?\d+", found.strip()) else "x"

        expanded = text
        if "$(" in text or "${" in text or "`" in text:
            expanded = self.inside(text)
        value = arithmetic(re.sub(r"\$?\b([A-Za-z_]\w*)\b", number, expanded))
        return "" if value is None else str(value)


def _trimmed(value: str, rest: str) -> str:
    for mark, longest, front in (("##", True, True), ("#", False, True), ("%%", True, False), ("%", False, False)):
        if rest.startswith(mark):
            pattern = rest[len(mark) :].strip("\"'")
            sizes = range(len(value) + 1)
            for size in reversed(sizes) if longest else sizes:
                piece = value[:size] if front else value[len(value) - size :]
                if len(value) < 2000 and fnmatch.fnmatchcase(piece, pattern):
                    return value[size:] if front else value[: len(value) - size]
            return value
    if rest.startswith("/"):
        old, _, new = rest.lstrip("/").partition("/")
        return value.replace(old, new, -1 if rest.startswith("//") else 1) if old else value
    return {",,": value.lower(), "^^": value.upper()}.get(rest, value)


def _end(text: str, at: int) -> int:
    """Behind the expansion that begins at a place."""
    if text[at] == "`":
        return text.find("`", at + 1) + 1 or len(text)
    follows = text[at + 1 : at + 2]
    if follows in ("(", "{"):
        depth, closer = 0, {"(": ")", "{": "}"}[follows]
        for place in range(at + 1, len(text)):
            depth += (text[place] == follows) - (text[place] == closer)
            if not depth:
                return place + 1
        return len(text)
    found = NAME.match(text, at)
    return found.end() if found else at + 1


WORDS = re.compile(r"(?:\$\([^()]*\)|\S)+")  # what a command would print, and nobody ran, is one word


def split(text: str) -> list[str]:
    """An unquoted value as words. Quotes that stand in a value are meant to be read again (`eval`, `bash -c`)."""
    import shlex

    if "'" in text or '"' in text:
        try:
            return shlex.split(text, comments=False)
        except ValueError:
            pass
    return [word for word in WORDS.findall(text) if word != "\\"]
