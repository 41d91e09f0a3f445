"""Shell text → words and operators with their lines. Nothing is expanded here."""

import re

from memcalc.errors import InputError
from memcalc.frozen import NamedTuple

MAX_TOKENS = 60_000
OPERATORS = ("&&", "||", ";;", ">>", "<<<", "<<-", "<<", "&>", ">&", "(", ")", ";", "&", "|", ">", "<", "\n")
PLAIN = re.compile(r"[^\s\\'\"`$#&|;()<>]+")
CONTINUES = re.compile(r"\s*[-+$~\"'`}\w./-]")
CLOSERS = {"(": ")", "{": "}"}


class Quoted(NamedTuple):
    """A piece of a word: its text, and the quote around it ("" for none)."""

    text: str
    quote: str


class Token(NamedTuple):
    """A word of parts, or an operator, with its line; a here-document's body stands in `body`."""

    operator: str
    parts: tuple[Quoted, ...]
    line: int
    body: str = ""
    literal: bool = False  # of a here-document whose marker is quoted

    @property
    def plain(self) -> str:
        """The text of a word without any quote; what has one, or an expansion, is no keyword."""
        return self.parts[0].text if len(self.parts) == 1 and not self.parts[0].quote else ""


class Lexer:
    """One pass over the text."""

    def __init__(self, text: str, place: str, line: int = 1) -> None:
        self.text, self.place, self.at, self.line = text.replace("\r\n", "\n"), place, 0, line
        self.tokens: list[Token] = []
        self.pending: list[tuple[str, bool, bool, int]] = []  # here-documents that begin after this line
        self.continued = False  # whether a backslash has just joined two lines

    def run(self) -> list[Token]:
        text = self.text
        while self.at < len(text):
            char = text[self.at]
            if len(self.tokens) > MAX_TOKENS:
                raise InputError(f"more than {MAX_TOKENS:,} words", place=f"{self.place}:{self.line}")
            if char == "\\" and text[self.at + 1 : self.at + 2] == "\n":
                self._skip(2)
                self.continued = True
            elif char in " \t":
                self.at += 1
            elif char == "#":
                self._comment()
            elif operator := next((op for op in OPERATORS if text.startswith(op, self.at)), ""):
                self._operator(operator)
            else:
                self.continued = False
                self._word()
        return self.tokens

    def _skip(self, many: int) -> None:
        self.line += self.text.count("\n", self.at, self.at + many)
        self.at += many

    def _comment(self) -> None:
        """To the end of the line. Between lines that a backslash joins people mean the command to go on behind it."""
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end
        if self.continued and CONTINUES.match(self.text, self.at) and self._next_is_option():
            self._skip(1)

    def _next_is_option(self) -> bool:
        rest = self.text[self.at : self.at + 400].lstrip()
        return rest.startswith(("-", "#", "\\", "$")) or bool(re.match(r"[+~]*[\w.]+\.[\w.]+=", rest))

    def _operator(self, operator: str) -> None:
        line = self.line
        self.continued = False
        self._skip(len(operator))
        if operator in ("<<", "<<-"):
            found = re.compile(r"\s*(['\"\\]?)(\w+)['\"]?").match(self.text, self.at)
            if not found:
                raise InputError("a here-document without a marker", place=f"{self.place}:{line}")
            self._skip(len(found[0]))
            self.pending.append((found[2], operator == "<<-", bool(found[1]), len(self.tokens)))
            self.tokens.append(Token("<<", (), line))
            return
        if operator != "\n" or not self.tokens or self.tokens[-1].operator != "\n":  # empty lines are one
            self.tokens.append(Token(operator, (), line))
        if operator == "\n" and self.pending:
            for marker, tabs, literal, index in self.pending:
                body, start = self._document(marker, tabs)
                self.tokens[index] = Token("<<", (), start, body, literal)
            self.pending = []

    def _document(self, marker: str, tabs: bool) -> tuple[str, int]:
        start, lines = self.line, []
        while self.at < len(self.text):
            end = self.text.find("\n", self.at)
            end = len(self.text) if end < 0 else end
            line = self.text[self.at : end]
            self._skip(min(end + 1, len(self.text)) - self.at)
            if (line.lstrip("\t") if tabs else line).strip() == marker:
                break
            lines.append(line.lstrip("\t") if tabs else line)
        return "\n".join(lines), start

    def _word(self) -> None:
        parts: list[Quoted] = []
        line, text = self.line, self.text
        while self.at < len(text):
            char = text[self.at]
            if char == "'":
                parts.append(Quoted(self._single(), "'"))
            elif char == '"':
                parts.append(Quoted(self._double(), '"'))
            elif char == "\\":
                if text[self.at + 1 : self.at + 2] == "\n":
                    self._skip(2)
                    self.continued = True
                    break
                parts.append(Quoted(text[self.at + 1 : self.at + 2], "'"))
                self._skip(2)
            elif char in "$`":
                parts.append(Quoted(self._dollar(), ""))
            elif found := PLAIN.match(text, self.at):
                parts.append(Quoted(found[0], ""))
                self._skip(len(found[0]))
            elif char == "#":
                parts.append(Quoted("#", ""))
                self.at += 1
            elif char == "(" and parts and parts[-1].text.endswith("=") and not parts[-1].quote:
                parts.append(Quoted("(", "array"))
                break
            else:
                break
        self.tokens.append(Token("", _joined(parts), line))

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise InputError("a quote that is not closed", place=f"{self.place}:{self.line}")
        found = self.text[self.at + 1 : end]
        self._skip(end + 1 - self.at)
        return found

    def _double(self) -> str:
        start, at, text = self.at + 1, self.at + 1, self.text
        while at < len(text) and text[at] != '"':
            if text[at] == "\\":
                at += 2
            elif text.startswith(("$(", "${"), at):
                at = self._closed(at + 1)
            else:
                at += 1
        if at >= len(text):
            raise InputError("a quote that is not closed", place=f"{self.place}:{self.line}")
        found = text[start:at]
        self._skip(at + 1 - self.at)
        return found

    def _dollar(self) -> str:
        """One expansion, as written."""
        text, start = self.text, self.at
        if text[start] == "`":
            end = text.find("`", start + 1)
            end = len(text) if end < 0 else end + 1
        elif text.startswith("$'", start):
            end = text.find("'", start + 2) + 1 or len(text)
        elif text[start + 1 : start + 2] in ("(", "{"):
            end = self._closed(start + 1)
        else:
            found = re.compile(r"\$(\w+|[@*#?$!-])?").match(text, start)
            end = found.end() if found else start + 1
        self._skip(end - start)
        return text[start:end]

    def _closed(self, at: int) -> int:
        """Behind the bracket that closes the one at a place, whatever is nested inside."""
        text, opened = self.text, [CLOSERS[self.text[at]]]
        at += 1
        while at < len(text) and opened:
            char = text[at]
            if char == "\\":
                at += 1
            elif char == "'" and opened[-1] == ")":
                at = text.find("'", at + 1)
                at = len(text) if at < 0 else at
            elif char in CLOSERS and (char == "(" or text[at - 1] == "$"):
                opened.append(CLOSERS[char])
            elif char == opened[-1]:
                opened.pop()
            if len(opened) > 32:
                break
            at += 1
        if opened:
            raise InputError("a bracket that is not closed", place=f"{self.place}:{self.line}")
        return at


def _joined(parts: list[Quoted]) -> tuple[Quoted, ...]:
    """Plain pieces beside each other as one."""
    joined: list[Quoted] = []
    for part in parts:
        if joined and joined[-1].quote == part.quote == "" and not {"$", "`"} & {part.text[:1], joined[-1].text[:1]}:
            joined[-1] = Quoted(joined[-1].text + part.text, "")
        else:
            joined.append(part)
    return tuple(joined)
