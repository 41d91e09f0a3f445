"""Formats, single fields, files, colour, width, pipes and exit codes: the same for every command."""

import csv
import io
import json
import os
import pty
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest

from memcalc import __version__
from memcalc.cli import COMMANDS, cli
from memcalc.formulas.precision import PRECISIONS
from memcalc.report.json import field
from tests.golden.outputs import KEPT, Command, commands

Run = Callable[..., Any]
Folder = Callable[..., str]

EVERY = (
    "train 7B --gpus 8 --zero 2 --gpu h100", "train MODEL --gpu rtx-4090", "infer MODEL --gpu h100", "bytes",
    "inspect MODEL", "chinchilla --params 70B --tokens 1.4T --unique-tokens 200B --inference-tokens 1T",
    "models", "models llama-3.1-8b", "gpus", "gpus h100", "formats", "formats nf4", "optimizers", "optimizers muon",
)  # fmt: skip
each_command = pytest.mark.parametrize("command", EVERY)


@pytest.fixture
def run(memcalc: Run, folder: Folder) -> Run:
    return lambda command, *more: memcalc(*(folder() if w == "MODEL" else w for w in command.split()), *more)


# --- formats ----------------------------------------------------------------------------------------------------------


@each_command
def test_table(run: Run, command: str) -> None:
    result = run(command)
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out, "colour in a pipe"
    assert all(line == line.rstrip() for line in result.out.splitlines())
    too_wide = [line for line in result.out.splitlines() if len(line) > 100]
    assert not too_wide, too_wide


@each_command
def test_json(run: Run, command: str) -> None:
    result = run(command, "--format", "json")
    assert (result.code, result.err) == (0, "")
    assert result.document["schema"] == "memcalc/1"
    fractions = [path for path, value in walk(result.document) if path.endswith("bytes") and isinstance(value, float)]
    assert not [path for path in fractions if "per_parameter" not in path], fractions


def walk(value: Any, path: str = "") -> Any:
    """(path, leaf) of everything in a document."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from walk(child, f"{path}.{key}")
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from walk(child, f"{path}.{number}")
    else:
        yield path, value


@each_command
def test_csv(run: Run, command: str) -> None:
    result = run(command, "--format", "csv")
    assert (result.code, result.err) == (0, "")
    heading, *rows = csv.reader(io.StringIO(result.out))
    assert rows
    assert all(heading), heading
    assert {len(row) for row in rows} == {len(heading)}, "one rectangular table"
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@", "\t", "\r"))]
    if heading == ["table", "level", "item", "quantity", "value", "unit"]:
        for row in rows:
            assert not row[5] or float(row[4]) is not None, row
            assert row[5] != "B" or row[4].isdecimal(), f"{row} is not a whole number of bytes"
        return
    for index, title in enumerate(heading):
        if title.endswith("[B]"):
            wrong = [row[index] for row in rows if row[index] and not row[index].isdecimal()]
            assert not wrong, f"{title}: {wrong} are not whole numbers of bytes"


@pytest.mark.parametrize("command", ["train 7B --gpu h100 --gpus 8 --zero 1", "train llama-3.1-8b --gpu rtx-4090",
                                     "infer llama-3.1-8b --engine vllm --gpu h100"])  # fmt: skip
def test_csv_levels_add_up(memcalc: Run, command: str) -> None:
    """A sum over one level counts nothing twice: level 1 is what is on the device, level 2 what level 1 is made of."""
    rows = list(csv.DictReader(io.StringIO(memcalc(*command.split(), "--format", "csv").out)))
    first = next(row["table"] for row in rows if row["table"] != "verdict")
    sizes = [row for row in rows if row["table"] == first and row["quantity"] == "memory"]
    total = next(int(row["value"]) for row in sizes if row["item"] in ("on the device", "needed by these requests"))
    assert sum(int(row["value"]) for row in sizes if row["level"] == "1") == total
    assert rows[0]["quantity"] == "verdict"


def test_csv_runs_no_formula(memcalc: Run, tmp_path: Path, config: Callable[..., Any]) -> None:
    """Text from outside that a spreadsheet would take for a formula stands behind an apostrophe; numbers stay numbers."""
    place = tmp_path / "=HYPERLINK(1)"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config("meta-llama/Meta-Llama-3.1-8B")))
    rows = list(csv.reader(io.StringIO(memcalc("train", str(place), "--gpu", "h100", "--format", "csv").out)))
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=@\t\r")]
    assert [cell for cell in cells if cell.startswith("'=HYPERLINK")]
    signed = [cell for cell in cells if cell[:1] in "+-" and cell]
    assert all(float(cell) < 0 for cell in signed), signed


@each_command
def test_markdown(run: Run, command: str) -> None:
    result = run(command, "--format", "markdown")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    rules = [index for index, line in enumerate(lines) if re.fullmatch(r"\|((---|--:)\|)+", line)]
    assert rules, result.out
    for index in rules:
        columns = lines[index].count("|")
        for line in lines[index - 1 :]:
            if not line.startswith("|"):
                break
            assert len(re.findall(r"(?<!\\)\|", line)) == columns, line


@each_command
def test_svg(run: Run, command: str) -> None:
    result = run(command, "--format", "svg")
    assert (result.code, result.err) == (0, "")
    root = ElementTree.fromstring(result.out)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    width, height = map(float, root.get("viewBox", "").split()[2:])
    for text in root.iter(f"{space}text"):
        x, y = float(text.get("x", "")), float(text.get("y", ""))
        length = float(text.get("textLength", "0"))
        start = {"start": x, "middle": x - length / 2, "end": x - length}[text.get("text-anchor", "start")]
        assert start >= 0, text.text
        assert start + length <= width, f"{text.text} is clipped"
        assert 0 < y <= height, text.text
    said = "".join(text.text or "" for text in root.iter(f"{space}text"))
    assert not re.search("[\u2800-\u28ff]", said), "plots are vectors"
    assert ("chinchilla" in command) == bool(list(root.iter(f"{space}polyline")))


# --- --get ------------------------------------------------------------------------------------------------------------

FIELDS = (
    ("per_gpu.parameters", "14000000000"),
    ("gpu.fits", "false"),
    ("gpu.name", "NVIDIA A100 SXM4 40GB"),
    ("model.embedding_parameters", "null"),
    ("run.parallelism.gpus", "1"),
    ("lines.0.bytes", "14000000000"),
    ("lines[0].bytes", "14000000000"),
    ("lines.0.path", "parameters/dense"),
    ("run.offload", "[]"),
    ("host", '{"per_node": 0, "nvme_per_node": 0}'),
)


@pytest.mark.parametrize(("path", "expected"), FIELDS)
def test_get(memcalc: Run, path: str, expected: str) -> None:
    result = memcalc("train", "7B", "--gpu", "a100-40gb", "--get", path)
    assert (result.code, result.out, result.err) == (0, f"{expected}\n", "")


@pytest.mark.parametrize(("path", "words"), [
    ("per_gpu.pek", ("did you mean peak?", "per_gpu has parameters")),
    ("nothing", ("the document has schema",)),
    ("lines.1000.bytes", ("lines.1000.bytes",)),
    ("lines.-1", ("lines.-1",)),
    ("per_gpu.peak.deeper", ("per_gpu.peak.deeper",)),
    ("x" * 10_000, ("no field",)),
])  # fmt: skip
def test_get_refuses(memcalc: Run, path: str, words: tuple[str, ...]) -> None:
    result = memcalc("train", "7B", "--get", path)
    assert (result.code, result.out) == (2, "")
    assert all(word in result.err for word in ("--get", *words)), result.err
    assert len(result.err) < 600


def test_get_needs_no_quotes_in_a_shell(process: Run) -> None:
    script = f'test "$({sys.executable} -m memcalc train 7.5B --get per_gpu.parameters)" -eq 15000000000'
    assert subprocess.run(["sh", "-c", script], check=False).returncode == 0


# --- --output ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["table", "json", "csv", "markdown", "svg"])
def test_output_is_what_stdout_would_have_been(memcalc: Run, tmp_path: Path, format_: str) -> None:
    shown = memcalc(f"train 7B --format {format_}")
    written = memcalc("train", "7B", "--format", format_, "--output", str(tmp_path / "out"))
    assert (written.code, written.out, written.err) == (0, "", "")
    assert (tmp_path / "out").read_text(encoding="utf-8") == shown.out
    assert os.listdir(tmp_path) == ["out"]


def test_output_of_one_field(memcalc: Run, tmp_path: Path) -> None:
    memcalc("train", "7B", "--get", "per_gpu.parameters", "--output", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "14000000000\n"


def test_output_replaces_whole(memcalc: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old " * 100_000)
    memcalc("train", "7B", "--format", "json", "--output", str(tmp_path / "out"))
    assert json.loads((tmp_path / "out").read_text())["schema"] == "memcalc/1"


def test_a_failed_command_leaves_the_old_file(memcalc: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    assert memcalc("train", "7B", "--optimizer", "none", "--output", str(tmp_path / "out")).code == 2
    assert (tmp_path / "out").read_text() == "old"


@pytest.mark.parametrize("place", ["missing/out.json", ".", "a-file/out.json", "x" * 300])
def test_an_unwritable_place(memcalc: Run, tmp_path: Path, place: str) -> None:
    (tmp_path / "a-file").write_text("")
    result = memcalc("train", "7B", "--output", str(tmp_path / place))
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1, result.err
    assert "--output" in result.err
    assert "cannot be written" in result.err
    assert os.listdir(tmp_path) == ["a-file"], "something half-written was left"


def test_a_full_disk_leaves_nothing(memcalc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    result = memcalc("train", "7B", "--output", str(tmp_path / "out"))
    assert (result.code, "No space left on device" in result.err) == (2, True)
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "old"


def test_a_link_is_followed(memcalc: Run, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    memcalc("train", "7B", "--get", "schema", "--output", str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "memcalc/1\n"


def test_a_pipe_is_written_to_and_stays_one(memcalc: Run, tmp_path: Path) -> None:
    """As /dev/stdout and /dev/null are: replacing those would break the machine."""
    place = tmp_path / "pipe"
    os.mkfifo(place)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(place.read_text()))
    reader.start()
    result = memcalc("train", "7B", "--get", "schema", "--output", str(place))
    reader.join(timeout=30)
    assert result.code == 0, result.err
    assert read == ["memcalc/1\n"]
    assert stat.S_ISFIFO(place.stat().st_mode)


# --- terminals and pipes ----------------------------------------------------------------------------------------------


def on_a_terminal(*words: str, columns: int = 100, **environment: str) -> str:
    """What `python -m memcalc …` writes to a terminal of so many columns."""
    leader, follower = pty.openpty()
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    with subprocess.Popen(
        [sys.executable, "-m", "memcalc", *words], stdout=follower, stdin=follower, stderr=follower,
        env={**kept, "TERM": "xterm-256color", "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8", **environment},
    ) as process:  # fmt: skip
        os.close(follower)
        out = b""
        while True:
            try:
                block = os.read(leader, 65536)
            except OSError:  # Linux: the other side has closed
                break
            if not block:
                break
            out += block
        process.wait(timeout=60)
    os.close(leader)
    return out.decode()


TRAIN = ("train", "7B", "--gpus", "8", "--zero", "3", "--gpu", "h100")


def test_colour_on_a_terminal_only() -> None:
    assert "\x1b[" in on_a_terminal(*TRAIN)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(environment: dict[str, str]) -> None:
    out = on_a_terminal(*TRAIN, **environment)
    assert "FITS: " in out
    assert "\x1b" not in out


def test_the_verdict_does_not_need_colour() -> None:
    coloured, plain_text = on_a_terminal(*TRAIN), on_a_terminal(*TRAIN, NO_COLOR="1")
    stripped = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in stripped.splitlines()] == plain_text.splitlines()


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_a_terminal_sets_the_width(columns: int) -> None:
    lines = on_a_terminal(*TRAIN, columns=columns, NO_COLOR="1").splitlines()
    widest = max(map(len, lines))
    assert widest <= columns, f"{widest} characters on {columns} columns: {max(lines, key=len)!r}"


@pytest.mark.parametrize(("columns", "most"), [("60", 60), ("200", 200), ("", 100), ("wide", 100), ("0", 100)])
def test_a_pipe_is_as_wide_as_columns_says_or_100(process: Run, columns: str, most: int) -> None:
    lines = process(*TRAIN, COLUMNS=columns).out.splitlines()
    assert max(map(len, lines)) <= most


def test_forced_colour_is_not_for_files(process: Run) -> None:
    assert "\x1b" not in process(*TRAIN, FORCE_COLOR="1").out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding(process: Run, encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "memcalc", *TRAIN],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"FITS: " in done.stdout
    done.stdout.decode(encoding)


@pytest.mark.parametrize(("command", "code"), [("gpus --format json", 0), ("train 7B --gpu rtx-4090 --require-fit", 1)])
def test_a_reader_that_leaves_is_no_error(command: str, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "memcalc", *command.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        err = process.stderr.read()
        assert (process.wait(timeout=60), err) == (code, b"")


# --- the program as a whole -------------------------------------------------------------------------------------------


def test_version(memcalc: Run) -> None:
    result = memcalc("--version")
    assert (result.code, result.out) == (0, f"memcalc, version {__version__}\n")


@pytest.mark.parametrize("words", [("--help",), ("-h",), ()])
def test_help_names_every_command(memcalc: Run, words: tuple[str, ...]) -> None:
    result = memcalc(*words)
    assert result.code == (0 if words else 2)
    for name, entry in COMMANDS.items():
        assert (f"  {name} " in result.out) == bool(entry.subject), "another name of a command is hidden"
        assert not entry.subject or entry.summary.split(",")[0][:30] in result.out
    assert "COMMAND --help" in result.out.split("Where to go on:")[1]


GROUPS = {"plan": "train", "compare": "train"}  # of commands: one of theirs
WITHOUT_REPORT = ("help", "completion")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_of_every_command(memcalc: Run, name: str) -> None:
    result = memcalc(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Usage: memcalc {name}" in result.out
    shown = memcalc(name, GROUPS[name], "--help").out if name in GROUPS else result.out
    for option in ("--format", "--get", "--output") if name not in WITHOUT_REPORT else ():
        assert option in shown
    assert max(map(len, result.out.splitlines())) <= 100
    assert memcalc("help", name).out == result.out


def test_help_stands_under_subjects(memcalc: Run) -> None:
    text = memcalc("help", "train").out
    subjects = ("Hardware:", "Model states:", "Sharding:", "Activations:", "Mixture of experts:", "Output:")
    places = [text.index(f"\n{subject}\n") for subject in subjects]
    assert places == sorted(places)
    for row in PRECISIONS:
        assert re.search(rf"^ +{re.escape(row.name)} +{re.escape(row.note[:20])}", text, re.MULTILINE), row.name


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items() if entry.subject and name != "help"])
def test_every_option_says_what_it_does(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.opts}"


@pytest.mark.parametrize("command", [each for each in commands() if "json" in "".join(each.formats.values())],
                         ids=lambda each: each.name)  # fmt: skip
def test_help_of_get_names_a_field_that_exists(command: Command, memcalc: Run) -> None:
    """Of one row of a listing, or of a refused question, there may be another."""
    name, named = command.arguments[0], [word for word in command.arguments[1:2] if not word.startswith("-")]
    said = re.search(
        r"bare: +(\S+)", " ".join(memcalc(name, *([GROUPS[name]] if name in GROUPS else []), "--help").out.split())
    )
    assert said, name
    if name in ("gpus", "models", "engines", "runs", "inspect") and named:
        return
    if name == "infer" and "--gpu" not in command.arguments:
        return
    document = json.loads((KEPT / f"{command.name}.json").read_text(encoding="utf-8"))
    if name == "validate" and not document["distribution"]:
        return
    field(document, said[1])


@pytest.mark.parametrize(("words", "said"), [
    (("trian",), ("'trian'", "did you mean train")),
    (("frobnicate",), ("'frobnicate'", "train, infer, bytes")),
    (("--verison",), ("--verison", "--version")),
    (("x" * 5000,), ("no command",)),
    (("train\nrm",), ("no command",)),
])  # fmt: skip
def test_an_unknown_command(memcalc: Run, words: tuple[str, ...], said: tuple[str, ...]) -> None:
    result = memcalc(*words)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1, result.err
    assert len(result.err) < 300
    assert all(word in result.err for word in said), result.err


def test_a_process_behaves_the_same(process: Run, memcalc: Run) -> None:
    """`python -m memcalc` is what the tests above call in process."""
    assert process(*TRAIN, "--format", "json").out == memcalc(*TRAIN, "--format", "json").out
    refused = process("train", "7B", "--zero", "9")
    assert (refused.code, refused.out) == (2, "")
    assert "Traceback" not in refused.err
    assert process("train", "7B", "--gpu", "t4", "--require-fit").code == 1


@pytest.mark.parametrize("name", [b"\xff\xfe.json", b"a\tb.json", "ünïcode-模型.json".encode()])
def test_odd_file_names(tmp_path: Path, config: Callable[..., Any], name: bytes) -> None:
    folder = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(folder)
    with open(os.path.join(folder, b"config.json"), "w") as file:
        json.dump(config("meta-llama/Meta-Llama-3.1-8B"), file)
    for more in (
        [],
        ["--format", "json"],
        ["--format", "svg"],
        ["--output", os.path.join(os.fsencode(tmp_path), b"out")],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "memcalc", "train", folder, *more], capture_output=True, timeout=60, check=False
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")[-400:]
        assert done.returncode == 0, done.stderr


def test_fields_come_one_a_line_in_the_order_asked(memcalc: Run) -> None:
    """Each of several --get is answered: the last alone would be taken for the first."""
    words = "train llama-3.1-8b --gpu h100 --get gpu.verdict --get moments --get per_gpu.peak"
    verdict, moments, peak = memcalc(words).out.splitlines()
    assert (verdict, moments[:2], peak) == ("no", "[{", memcalc("train llama-3.1-8b --gpu h100 --get per_gpu.peak").out.strip())
    for wrong in ("", ".", "[]"):
        assert "--get: no field" in memcalc("infer", "gpt2", f"--get={wrong}").err


@pytest.mark.parametrize("line", ["bytes 7B", "chinchilla 70B", "optimal llama-3.1-8b --format json"])
def test_commands_without_a_model_say_what_they_take(memcalc: Run, line: str) -> None:
    result = memcalc(line)
    assert result.code == 2
    assert "takes no MODEL: --params 7B" in result.err


def test_an_unknown_field_is_one_line_whatever_else_is_warned_of(memcalc: Callable[..., Any]) -> None:
    words = "budget --params 7B --tokens 1T --gpu h100 --price 2 --cost 3"
    assert memcalc(f"{words} --get compute.cost_usd").err.startswith("memcalc: warning: ")
    refused = memcalc(f"{words} --get nothing")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert refused.err.startswith("memcalc: --get: no field 'nothing'")
