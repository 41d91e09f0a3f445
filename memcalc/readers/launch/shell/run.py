"""A script followed as far as its text determines it: assignments, arrays, tests, loops, functions; no program is started."""

import fnmatch
import re
from collections.abc import Callable, Sequence

from memcalc.errors import InputError, MemcalcError, one_line
from memcalc.frozen import NamedTuple
from memcalc.readers.launch.shell.conditions import decide
from memcalc.readers.launch.shell.evaluate import read_into, substituted
from memcalc.readers.launch.shell.expand import Scope, Variables
from memcalc.readers.launch.shell.lexer import Lexer, Token
from memcalc.readers.launch.shell.syntax import Branches, Cases, Function, Group, Loop, Parser, Simple, Statement

MAX_STEPS = 20_000
MAX_DEPTH = 12  # of calls, `bash -c` and sourced files
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[[^\]]*\])?(\+?)=")
DECLARING = ("export", "declare", "local", "readonly", "typeset")
CALLS = re.compile(r"-[a-z]*c")  # -c, -lc
SHELLS = ("bash", "sh", "zsh", "eval")


class Word(NamedTuple):
    """A word of a command and the line that it stands on."""

    text: str
    line: int


class Started(NamedTuple):
    """A program with its arguments, as far as they are known, and what was exported to it."""

    words: tuple[Word, ...]
    variables: dict[str, str]
    line: int


def words_of(words: Sequence[Word]) -> list[str]:
    return [word.text for word in words[1:]]


class Script(NamedTuple):
    """What following a script found: programs, files that it writes, and what it could not decide."""

    commands: list[Started]
    files: dict[str, str]
    notes: list[str]


class Runner:
    """The state of one script. `opened`: reads a file beside it, or gives None."""

    def __init__(self, place: str, opened: Callable[[str], str | None], *, asked: bool = False) -> None:
        self.place, self.opened = place, opened
        self.asked = asked  # whether a test of what nobody set is undecided, not a test of nothing
        self.variables: Variables = {}
        self.exported: set[str] = set()
        self.functions: dict[str, tuple[Statement, ...]] = {}
        self.script = Script([], {}, [])
        self.scope = Scope(self.variables, self._substitution)
        self.steps = self.depth = 0

    def follow(self, text: str, line: int = 1) -> None:
        """A script's text, or one line of it that another shell would read."""
        self.depth += 1
        if self.depth <= MAX_DEPTH:
            self._run(Parser(Lexer(text, self.place, line).run(), self.place).statements())
        self.depth -= 1

    def _run(self, statements: Sequence[Statement]) -> bool | None:
        status: bool | None = True
        for statement in statements:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise InputError(f"more than {MAX_STEPS:,} steps", place=self.place)
            status = self._one(statement, status)
        return status

    def _one(self, statement: Statement, status: bool | None) -> bool | None:
        match statement:
            case Simple():
                if (statement.joint == "&&" and status is False) or (statement.joint == "||" and status is not False):
                    return status
                return self._simple(statement)
            case Branches():
                self._branches(statement)
            case Loop():
                self._loop(statement)
            case Cases():
                self._cases(statement)
            case Function():
                self.functions[statement.name] = statement.body
            case Group():
                return self._run(statement.body)
        return None

    def _branches(self, statement: Branches) -> None:
        """The branch that the text decides for; of an undecided if nothing is taken but the programs that it starts."""
        for condition, body in statement.arms:
            held = True if not condition else self._condition(condition)
            if held:
                self._run(body)
                return
            if held is None:
                self._undecided(statement)
                return

    def _undecided(self, statement: Branches) -> None:
        before = dict(self.variables)
        outcomes = []
        has_else = any(not condition for condition, _ in statement.arms)
        for _, body in statement.arms:
            self.variables.clear()
            self.variables.update(before)
            self._run(body)
            outcomes.append(dict(self.variables))
        if not has_else:
            outcomes.append(before)
        self.variables.clear()
        self.variables.update(before)
        for name in sorted({name for outcome in outcomes for name in outcome}):
            values = [outcome.get(name) for outcome in outcomes]
            if all(value == values[0] for value in values):
                if values[0] is not None:
                    self.variables[name] = values[0]
            elif name in before:
                self.script.notes.append(
                    f"{self.place}:{statement.line}: {name} may change in an if that the file does not decide"
                )
            else:
                self.variables.pop(name, None)

    def _condition(self, statements: Sequence[Statement]) -> bool | None:
        status: bool | None = None
        for index, statement in enumerate(statements):
            if not isinstance(statement, Simple):
                return None
            if (index and statement.joint == "&&" and status is False) or (index and statement.joint == "||" and status):
                continue
            status = self._simple(statement)
        return status

    def _loop(self, statement: Loop) -> None:
        if not statement.name:
            self._run(statement.body)
            return
        values = [text for word in statement.words for text in self._expanded(word)][:64]
        for value in values or [f"${{{statement.name}}}"]:
            if values:
                self.variables[statement.name] = value
            self._run(statement.body)

    def _cases(self, statement: Cases) -> None:
        value = self.scope.text(statement.word.parts)
        for patterns, body in statement.arms:
            texts = [self.scope.text(pattern.parts) for pattern in patterns]
            if "$" in value:
                break
            if any(fnmatch.fnmatchcase(value, text) for text in texts):
                self._run(body)
                return
        if "$" in value:
            unknown = Simple((), None, (), "", statement.word.line)
            self._undecided(Branches(tuple(((unknown,), body) for _, body in statement.arms), statement.word.line))

    def _simple(self, command: Simple) -> bool | None:
        tokens = list(command.words)
        local: dict[str, str] = {}
        declaring = False
        while tokens and (
            tokens[0].plain in DECLARING or (tokens[0].plain.startswith("-") and declaring) or self._assigns(tokens[0])
        ):
            token = tokens.pop(0)
            if token.plain in DECLARING:
                declaring = True
            elif self._assigns(token):
                self._assign(token, tokens, local, declaring)
        if declaring or not tokens:
            self.exported |= {token.plain for token in tokens if token.plain}
            self.variables.update(local)
            self.exported |= set(local) if declaring else set()
            return True
        words = [Word(text, token.line) for token in tokens if not token.operator for text in self._expanded(token)]
        if not words:
            return True
        return self._program(words, command, local)

    def _assigns(self, token: Token) -> bool:
        return bool(token.parts) and not token.parts[0].quote and bool(ASSIGNMENT.match(token.parts[0].text))

    def _assign(self, token: Token, rest: list[Token], local: dict[str, str], declaring: bool) -> None:
        first = token.parts[0].text
        found = ASSIGNMENT.match(first)
        assert found
        name, grows = found[1], bool(found[2])
        if token.parts[-1].quote == "array":
            items: list[str] = []
            while rest and rest[0].operator != ")":
                items += self._expanded(rest.pop(0))
            if rest:
                rest.pop(0)
            had = self.variables.get(name, [])
            self.variables[name] = [*(had if isinstance(had, list) else [had]), *items] if grows else items
            return
        parts = (token.parts[0]._replace(text=first[found.end() :]), *token.parts[1:])
        value = self.scope.text(parts)
        old = self.variables.get(name)
        if grows:
            if isinstance(old, list):
                self.variables[name] = [*old, value]
                return
            value = (old or "") + value
        if rest and not declaring:
            local[name] = value
        else:
            self.variables[name] = value[:200_000]
            if declaring:
                self.exported.add(name)

    def _expanded(self, token: Token) -> list[str]:
        return self.scope.words(token.parts)

    def _program(self, words: list[Word], command: Simple, local: dict[str, str]) -> bool | None:
        name = words[0].text
        if name in ("[", "[[", "test") or (name == "!" and len(words) > 1 and words[1].text in ("[", "[[", "test")):
            return self._test(command)
        if name in ("true", ":"):
            return True
        if name == "false":
            return False
        if name in self.functions and self.depth < MAX_DEPTH:
            self._call(self.functions[name], [word.text for word in words[1:]])
            return None
        if name in ("source", ".") and len(words) > 1:
            self._source(words[1].text)
            return None
        if name in (
            "set",
            "shift",
            "unset",
            "echo",
            "cd",
            "mkdir",
            "sleep",
            "printf",
            "exit",
            "return",
            "trap",
            "ulimit",
            "module",
            "wait",
        ):
            if name == "set" and len(words) > 1 and words[1].text == "--":
                self.variables["@"] = [word.text for word in words[2:]]
            return None
        if name == "read":
            read_into(self.variables, words_of(words), self._fed(command), local.get("IFS", " \t\n"))
            return True
        if command.body is not None and name in ("cat", "tee"):
            text = command.body.body if command.body.literal else self.scope.inside(command.body.body)
            target = self.scope.text(command.target[-1].parts) if command.target else words[-1].text
            self.script.files[target] = text
            return True
        if command.body is not None and name in ("sbatch", "bash", "sh", "ssh", "qsub"):
            text = command.body.body if command.body.literal else self.scope.inside(command.body.body)
            self.follow(text, command.body.line)
            return None
        if self._nested(words):
            return None
        exported = {key: value for key, value in self.variables.items() if isinstance(value, str)}
        self.script.commands.append(Started(tuple(words), {**exported, **local}, words[0].line))
        return None

    def _fed(self, command: Simple) -> str | None:
        """What a command reads: its here-document or here-string; None where it is not of the text."""
        if command.fed is not None:
            return self.scope.text(command.fed.parts)
        if command.body is None:
            return None
        return command.body.body if command.body.literal else self.scope.inside(command.body.body)

    def _nested(self, words: list[Word]) -> bool:
        """bash -c "…", eval …, and the same behind srun or another launcher: the text is a script once more."""
        for index, word in enumerate(words[:-1]):
            shell = word.text.rpartition("/")[2]
            if shell == "eval" and index == 0:
                self.follow(" ".join(each.text for each in words[1:]), words[1].line)
                return True
            last = index + 1
            while last < len(words) and words[last].text.startswith("-") and not CALLS.fullmatch(words[last].text):
                last += 1
            if shell in SHELLS and last + 1 < len(words) and CALLS.fullmatch(words[last].text):
                before = words[:index]
                mark = len(self.script.commands)
                try:
                    self.follow(words[last + 1].text, words[last + 1].line)
                except InputError as error:  # a line that another shell reads, with what is not known in it
                    self.script.notes.append(str(error))
                self.script.commands[mark:] = [
                    found._replace(words=(*before, *found.words)) for found in self.script.commands[mark:]
                ]
                return len(self.script.commands) > mark
        return False

    def _call(self, body: tuple[Statement, ...], arguments: list[str]) -> None:
        self.depth += 1
        names = [*map(str, range(1, 10)), "@"]
        kept = {name: self.variables.get(name) for name in names}
        self.variables.update({str(place): text for place, text in enumerate(arguments[:9], 1)})
        self.variables["@"] = arguments
        self._run(body)
        for key, old in kept.items():
            self.variables.pop(key, None)
            if old is not None:
                self.variables[key] = old
        self.depth -= 1

    def _source(self, path: str) -> None:
        text = self.opened(path)
        if text is None:
            self.script.notes.append(
                f"{self.place}: {one_line(path, 80)} is read by the script and is not here; what it sets is not known"
            )
            return
        try:
            self.follow(text)
        except MemcalcError as error:
            self.script.notes.append(f"{path}: {error}")

    def _test(self, command: Simple) -> bool | None:
        """[ … ] and [[ … ]]; what is not set is empty, as it is for a shell. None: files and the like decide."""
        if self.asked and any("${" in self.scope.text(token.parts) for token in command.words):
            return None
        self.scope.quiet = True
        texts = [self.scope.text(token.parts) for token in command.words]
        self.scope.quiet = False
        return decide([text for text in texts if text not in ("[", "[[", "]", "]]", "test")])

    def _substitution(self, text: str) -> str | None:
        return substituted(text, self.scope)
