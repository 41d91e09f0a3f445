"""Tokens → statements: simple commands, if, for, while, case, functions and groups."""

from typing import TypeAlias

from memcalc.errors import InputError
from memcalc.frozen import NamedTuple
from memcalc.readers.launch.shell.lexer import Token

MAX_NESTING = 40


class Simple(NamedTuple):
    """A command with its words, here-document and where its output goes; `joint` stands before it: && or ||, else empty."""

    words: tuple[Token, ...]
    body: Token | None
    target: tuple[Token, ...]
    joint: str
    line: int
    fed: Token | None = None  # a here-string


class Branches(NamedTuple):
    """if and elif: conditions with what they guard, the last one's condition empty (else)."""

    arms: tuple[tuple[tuple["Statement", ...], tuple["Statement", ...]], ...]
    line: int


class Loop(NamedTuple):
    """for NAME in WORDS; a while has no name and its body is read once."""

    name: str
    words: tuple[Token, ...]
    body: tuple["Statement", ...]


class Cases(NamedTuple):
    word: Token
    arms: tuple[tuple[tuple[Token, ...], tuple["Statement", ...]], ...]


class Function(NamedTuple):
    name: str
    body: tuple["Statement", ...]


class Group(NamedTuple):
    body: tuple["Statement", ...]


Statement: TypeAlias = Simple | Branches | Loop | Cases | Function | Group
SEPARATORS = (";", "\n", "&")
REDIRECTS = (">", ">>", "<", "&>", ">&", "<<<")


class Parser:
    """Recursive over nesting alone; what it does not understand is passed over word by word, never an error."""

    def __init__(self, tokens: list[Token], place: str) -> None:
        self.tokens, self.place, self.at, self.depth = tokens, place, 0, 0

    def statements(self, *ends: str) -> tuple[Statement, ...]:
        """Up to one of some keywords, which is left to be read."""
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise InputError(f"nested deeper than {MAX_NESTING} levels", place=f"{self.place}:{self._line()}")
        out: list[Statement] = []
        joint = ""
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token.operator in SEPARATORS:
                self.at += 1
                joint = ""
            elif token.operator in ("&&", "||"):
                joint, self.at = token.operator, self.at + 1
                self._newlines()
            elif token.operator == "|":
                joint, self.at = "", self.at + 1
            elif (
                (token.operator == ";;" and ";;" in ends)
                or (token.plain in ends and not token.operator)
                or (token.operator == ")" and ")" in ends)
            ):
                break
            else:
                before = self.at
                out.append(self._statement(token, joint))
                joint = ""
                if self.at == before:
                    self.at += 1
        self.depth -= 1
        return tuple(out)

    def _line(self) -> int:
        return self.tokens[min(self.at, len(self.tokens) - 1)].line if self.tokens else 0

    def _newlines(self) -> None:
        while self.at < len(self.tokens) and self.tokens[self.at].operator == "\n":
            self.at += 1

    def _take(self, word: str) -> bool:
        if self.at < len(self.tokens) and (self.tokens[self.at].plain == word or self.tokens[self.at].operator == word):
            self.at += 1
            return True
        return False

    def _statement(self, token: Token, joint: str) -> Statement:
        if token.operator == "(":
            self.at += 1
            body = self.statements(")")
            self._take(")")
            return Group(body)
        match token.plain:
            case "if":
                return self._if(token.line)
            case "for" | "select":
                return self._for()
            case "while" | "until":
                self.at += 1
                self.statements("do")
                self._take("do")
                body = self.statements("done")
                self._take("done")
                return Loop("", (), body)
            case "case":
                return self._case()
            case "{":
                self.at += 1
                body = self.statements("}")
                self._take("}")
                return Group(body)
            case "function":
                self.at += 1
        if self._is_function():
            name = self.tokens[self.at].plain
            while self.at < len(self.tokens) and not self._take("{"):
                self.at += 1
            body = self.statements("}")
            self._take("}")
            return Function(name, body)
        return self._simple(joint)

    def _is_function(self) -> bool:
        after = self.tokens[self.at + 1 : self.at + 3]
        named = bool(self.tokens[self.at].plain) if self.at < len(self.tokens) else False
        return named and (
            [token.operator for token in after] == ["(", ")"] or (self.at > 0 and self.tokens[self.at - 1].plain == "function")
        )

    def _if(self, line: int) -> Branches:
        arms = []
        while self._take("if") or self._take("elif"):
            condition = self.statements("then")
            self._take("then")
            arms.append((condition, self.statements("elif", "else", "fi")))
        if self._take("else"):
            arms.append(((), self.statements("fi")))
        self._take("fi")
        return Branches(tuple(arms), line)

    def _for(self) -> Loop:
        self.at += 1
        name = self.tokens[self.at].plain if self.at < len(self.tokens) else ""
        self.at += 1
        words: list[Token] = []
        self._take("in")
        while (
            self.at < len(self.tokens)
            and self.tokens[self.at].operator not in SEPARATORS
            and self.tokens[self.at].plain != "do"
        ):
            words.append(self.tokens[self.at])
            self.at += 1
        while self.at < len(self.tokens) and self.tokens[self.at].operator in SEPARATORS:
            self.at += 1
        self._take("do")
        body = self.statements("done")
        self._take("done")
        return Loop(name, tuple(word for word in words if not word.operator), body)

    def _case(self) -> Cases:
        self.at += 1
        word = self.tokens[self.at] if self.at < len(self.tokens) else Token("", (), 0)
        self.at += 1
        self._take("in")
        arms = []
        while self.at < len(self.tokens) and not self._take("esac"):
            if self.tokens[self.at].operator in ("\n", ";;", "(", ";"):
                self.at += 1
                continue
            patterns: list[Token] = []
            while self.at < len(self.tokens) and self.tokens[self.at].operator != ")":
                if not self.tokens[self.at].operator:
                    patterns.append(self.tokens[self.at])
                self.at += 1
            self.at += 1
            arms.append((tuple(patterns), self.statements(";;", "esac")))
        return Cases(word, tuple(arms))

    def _simple(self, joint: str) -> Simple:
        words: list[Token] = []
        body: Token | None = None
        target: list[Token] = []
        line = self.tokens[self.at].line
        fed: Token | None = None
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token.operator == "<<":
                body = token
            elif token.operator in REDIRECTS:
                if words and words[-1].plain in ("0", "1", "2") and words[-1].line == token.line and token.operator != "&>":
                    words.pop()  # the number of the stream
                self.at += 1
                if token.operator in (">", ">>") and self.at < len(self.tokens) and not self.tokens[self.at].operator:
                    target.append(self.tokens[self.at])
                if token.operator == "<<<" and self.at < len(self.tokens) and not self.tokens[self.at].operator:
                    fed = self.tokens[self.at]
                if self.at < len(self.tokens) and self.tokens[self.at].operator:
                    continue
            elif token.operator == "(" and words and words[-1].parts and words[-1].parts[-1].quote == "array":
                self.at += 1
                depth = 1
                while self.at < len(self.tokens) and depth:
                    inner = self.tokens[self.at]
                    depth += (inner.operator == "(") - (inner.operator == ")")
                    if depth and not inner.operator:
                        words.append(inner)
                    self.at += 1
                words.append(Token(")", (), line))
                continue
            elif token.operator:
                break
            else:
                words.append(token)
            self.at += 1
        return Simple(tuple(words), body, tuple(target), joint, line, fed)
