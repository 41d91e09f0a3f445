"""A log as far as it speaks of memory: bounded in size and in the length of a line, control characters dropped."""

import os
import re
from collections.abc import Callable, Iterator
from time import monotonic

from memcalc.errors import InputError
from memcalc.frozen import NamedTuple
from memcalc.readers.logs.patterns import FILE_TYPES, LLAMA, MEASURED, OF_THE_SERVER, SET, STARTS, UNITS, WRITES, Measures

MAX_BYTES = 256 * 2**20
NUMBER = 1000  # of settings, that a number weighs where lines of several programs are alike
MAX_SECONDS, MAX_DEVICES = 60, 64
MAX_LINE = 16_384  # characters of a line that are read
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
WORDS = ("KV", "memory", "buffer", "weight", "engine", "args", "Args", "n_ctx", "layers", "file type", "general.name", "tokens",
         "Graph", "graph", "MiB", "GiB", "max_", "K (", "n_seq_max", "n_ubatch", "lash", "kv_unified",
         "version", "llama-server", "breakdown", "Operation:", "file_type", "trtllm", "Listening")  # fmt: skip


class LogLine(NamedTuple):
    """A number or a word of the log, and the line that says it."""

    value: float | str
    line: int
    text: str


class LogReading(NamedTuple):
    """What a log says. `programs`: whose lines were met, the most first."""

    programs: tuple[str, ...]
    measured: dict[str, LogLine]  # bytes, tokens or requests
    settings: dict[str, LogLine]
    lines: int


def read_log(path: str, tick: Callable[[int], None] = lambda lines: None) -> LogReading:
    """Raises InputError where there is no such file, or none of its lines speaks of memory."""
    found, number = _Reading(), 0
    until = monotonic() + MAX_SECONDS
    for number, text in enumerate(_lines(path), 1):
        if number % 100_000 == 0:
            tick(number)
        if any(word in text for word in WORDS):
            found.read(number, text)
            if monotonic() > until:
                raise InputError(
                    f"its lines take more than {MAX_SECONDS} s to read; cut out the start of the engine", place=path
                )
    if not found.measured:
        raise InputError(
            "no line that speaks of memory is known; read are logs of vLLM, SGLang, TensorRT-LLM, llama.cpp, ollama, "
            "Megatron-LM and torchtitan, torch.cuda.memory_summary() and nvidia-smi",
            place=path,
        )
    measured = {name: each.line for name, each in found.measured.items()}
    return LogReading(found.programs, measured, found.settings, number)


class _Counted:
    """The lines of one kind so far: the last, the largest, or what the buffers of a device come to."""

    def __init__(self, rule: Measures) -> None:
        self.rule = rule
        self._devices: dict[str, float] = {}
        self._line: LogLine | None = None

    @property
    def line(self) -> LogLine:
        assert self._line is not None
        if self.rule.each in ("device", "latest"):  # a device has several buffers: of windows, of states
            return self._line._replace(value=max(self._devices.values()))
        return self._line

    def add(self, line: LogLine, device: str) -> None:
        if self.rule.each == "device" and (device in self._devices or len(self._devices) < MAX_DEVICES):
            self._devices[device] = self._devices.get(device, 0.0) + float(line.value)
        elif self.rule.each == "latest" and (device in self._devices or len(self._devices) < MAX_DEVICES):
            self._devices[device] = float(line.value)
        if self._line is None or self.rule.each != "largest" or line.value > self._line.value:  # type: ignore[operator]
            self._line = line


class _Reading:
    """What the lines so far say, of the last start of an engine."""

    def __init__(self) -> None:
        self.measured: dict[str, _Counted] = {}
        self.settings: dict[str, LogLine] = {}
        self._met: dict[str, int] = {}

    @property
    def programs(self) -> tuple[str, ...]:
        """Whose lines were met, the most first."""
        met = dict(self._met)
        for outer, inner in WRITES.items():
            if outer in met:
                met[outer] += met.pop(inner, 0)
        return tuple(sorted(met, key=lambda name: -met[name]))

    def read(self, number: int, text: str) -> None:
        if STARTS.search(text):
            self.measured.clear()
            self.settings = {name: line for name, line in self.settings.items() if name in OF_THE_SERVER}
        for row in MEASURED:
            if (found := row.pattern.search(text)) and not (row.spare and self._told(row)):
                groups = found.groupdict()
                value = float(groups["number"].replace(",", "")) * UNITS[groups.get("unit", row.unit).lower()]
                self._counted(row).add(LogLine(value, number, text), groups.get("device") or "")
                self._met[row.program] = self._met.get(row.program, 0) + NUMBER
        for rule in SET:
            if (said := rule.pattern.search(text)) and rule.setting not in self.settings:
                word = rule.words.get(said[1], said[1])
                if rule.program == LLAMA and rule.setting == "weights":
                    word = FILE_TYPES.get(said[1], said[1])
                if word is not None:
                    self.settings[rule.setting] = LogLine(word, number, text)
                self._met[rule.program] = self._met.get(rule.program, 0) + 1

    def _told(self, row: Measures) -> bool:
        """Whether a line that is no spare one has said it."""
        known = self.measured.get(row.quantity)
        return known is not None and not known.rule.spare

    def _counted(self, row: Measures) -> _Counted:
        """Of a quantity that several programs write, those of the last."""
        known = self.measured.get(row.quantity)
        if known is None or known.rule.program != row.program or known.rule.spare is not row.spare:
            known = self.measured[row.quantity] = _Counted(row)
        elif known.rule is not row:
            known.rule = row
        return known


def _lines(path: str) -> Iterator[str]:
    try:
        if os.path.isdir(path) or (os.path.exists(path) and not os.path.isfile(path)):
            raise InputError("is no file", place=path)
        if os.path.getsize(path) > MAX_BYTES:
            raise InputError(f"more than {MAX_BYTES // 2**20} MiB; cut out the start of the engine", place=path)
        with open(path, encoding="utf-8", errors="replace") as file:
            while line := file.readline(MAX_LINE):
                yield COLOURS.sub("", line).rstrip("\n")
    except OSError as error:
        raise InputError(error.strerror or str(error), place=path) from None
