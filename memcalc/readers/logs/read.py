"""A log as far as it speaks of memory: bounded in size and in the length of a line, control characters dropped."""

import os
import re
from collections.abc import Callable, Iterator

from memcalc.errors import InputError
from memcalc.frozen import NamedTuple
from memcalc.readers.logs.patterns import FILE_TYPES, LLAMA, MEASURED, SET, UNITS, Measures

MAX_BYTES = 256 * 2**20
MAX_LINE = 16_384  # characters of a line that are read
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
WORDS = ("KV", "memory", "buffer", "weight", "engine", "args", "Args", "n_ctx", "layers", "file type", "general.name", "tokens",
         "Graph", "graph", "MiB", "GiB", "max_", "K (")  # fmt: skip


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
    measured: dict[str, list[LogLine]] = {}
    rules: dict[str, Measures] = {}
    settings: dict[str, LogLine] = {}
    met: dict[str, int] = {}
    number = 0
    for number, text in enumerate(_lines(path), 1):
        if number % 100_000 == 0:
            tick(number)
        if not any(word in text for word in WORDS):
            continue
        for row in MEASURED:
            if found := row.pattern.search(text):
                groups = found.groupdict()
                value = float(groups["number"].replace(",", "")) * UNITS[groups.get("unit", row.unit).lower()]
                measured.setdefault(row.quantity, []).append(LogLine(value, number, text))
                rules[row.quantity] = row
                met[row.program] = met.get(row.program, 0) + 1
        for rule in SET:
            if (said := rule.pattern.search(text)) and rule.setting not in settings:
                word = rule.words.get(said[1], said[1])
                if rule.program == LLAMA and rule.setting == "weights":
                    word = FILE_TYPES.get(said[1], said[1])
                if word is not None:
                    settings[rule.setting] = LogLine(word, number, text)
                met[rule.program] = met.get(rule.program, 0) + 1
    if not measured:
        raise InputError(
            "no line that speaks of memory is known; read are logs of vLLM, SGLang, llama.cpp, Megatron-LM and torchtitan, "
            "torch.cuda.memory_summary() and nvidia-smi",
            place=path,
        )
    programs = tuple(sorted(met, key=lambda name: -met[name]))
    return LogReading(programs, {name: _one(rules[name], values) for name, values in measured.items()}, settings, number)


def _one(rule: Measures, values: list[LogLine]) -> LogLine:
    """Of several lines that measure the same."""
    if rule.each == "largest":
        return max(values, key=lambda read: read.value)
    if rule.each == "device":  # a device has several buffers: of windows, of states
        sums: dict[str, float] = {}
        for read in values:
            found = rule.pattern.search(read.text)
            assert found is not None  # as it was read with that pattern
            sums[found["device"]] = sums.get(found["device"], 0.0) + float(read.value)
        return values[-1]._replace(value=max(sums.values()))
    return values[-1]


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
