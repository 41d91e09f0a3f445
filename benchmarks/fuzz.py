"""Random command lines from the commands' own options, mostly plausible, in one process: an answer or one line.

`python benchmarks/fuzz.py --lines 20000 --seed 1` prints every line that ends otherwise: a traceback, exit 70 (or any but 0, 1
and 2), a refusal that is not one line of stderr, an answer that says something there, `inf` or `nan` in an answer, a control
character.
A smaller part of the same runs in tests/cli/test_fuzz.py.
"""

import argparse
import contextlib
import io
import random
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from memcalc.cli import cli, main

# Small models of every sort, so that thousands of lines take minutes: dense, mixture, hybrid, encoder, encoder-decoder, with
# images, stored in four bits, latent attention, a bare count.
MODELS = (
    "gpt2", "llama-3.2-1b", "qwen3-0.6b", "gemma-2-2b", "olmoe-1b-7b", "mamba2-1.3b", "bert-base", "t5-base", "whisper-tiny",
    "gpt-oss-20b", "deepseek-v2-lite", "gemma-3-4b", "7B", "125M",
)  # fmt: skip
GPUS = ("h100", "rtx-4090", "rtx-3060", "mi300x", "m4-max", "gaudi3", "tpu-v5e", "b200", "l4")
AMOUNTS: dict[str, tuple[str, ...]] = {
    "number": ("1", "2", "3", "4", "8", "16", "64", "512", "4096", "32k", "0", "-1", "7B", "1e30"),
    "number|max": ("1", "2", "8", "512", "4096", "32k", "max", "0", "131072"),
    "share": ("0.4", "40%", "1", "0", "1.5", "nan"),
    "bytes": ("1GiB", "24GB", "200MB", "0B", "10", "1e9B", "9999TB"),
    "bytes/s": ("936GB/s", "1B/s", "0GB/s"),
    "flops/s": ("989TFLOP/s", "1TFLOP/s", "0FLOP/s"),
    "flops": ("5.76e23", "1e21", "3640PF-days", "1", "1e300"),
    "days": ("30", "36h", "0", "1e9"),
    "kg/kWh": ("0.385", "385g", "0"),
    "words": ("optimizer", "parameters", "activations", "q,v", "all-linear", "embeddings", "norm", ""),
    "text": ("x", "4", "fp8", "Q4_K_M", "w8a8", "int4-g128", "bf16", "fp16", "", "max", "640x480", "Et*2|t*2L"),
}  # fmt: skip
NAMED: dict[str, tuple[str, ...]] = {
    "--gpu": GPUS, "--draft": MODELS, "--model": MODELS, "--format": ("table", "json", "csv", "markdown", "svg"),
    "--explain": ("peak", "verdict", "per_gpu.needed", "nothing"), "--get": ("per_gpu.peak", "gpu.verdict", "run", "nothing"),
    "--weights": ("fp8", "Q4_K_M", "int4-g128", "w8a8", "fp32", "nf4", "mxfp4"), "--kv-dtype": ("fp8", "q8_0", "bf16", "int8"),
    "--optimizer": ("sgd", "adamw-8bit", "adafactor", "muon", "lion", "paged-adamw", "shampoo"),
    "--precision": ("bf16", "fp32", "bf16-amp", "fp16-mixed", "fp8-mixed"),
    "--params": ("7B", "70B", "1"), "--tokens": ("1T", "15T", "1"), "--like": ("llama-3.1-8b", "gpt-3"),
}  # fmt: skip
UNSAID = {"--output", "--presets", "--help", "--save"}  # which write files, or read folders
COMMANDS = {
    "train": 40,
    "infer": 30,
    "budget": 12,
    "chinchilla": 8,
    "bytes": 3,
    "inspect": 4,
    "models": 1,
    "gpus": 1,
    "formats": 1,
    "optimizers": 1,
    "engines": 1,
    "runs": 2,
    "schema": 1,
    "completion": 1,
    "help": 1,
    "check": 4,
    "import": 4,
    "verify": 2,
    "plan train": 2,
    "plan infer": 2,
    "compare train": 3,
    "compare infer": 3,
}
EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = [*map(str, sorted(path for path in EXAMPLES.rglob("*") if path.is_file())), "nothing.toml", "no/such.yaml"]
SELDOM_NAMED = {
    "budget",
    "models",
    "gpus",
    "formats",
    "optimizers",
    "engines",
    "runs",
    "help",
}  # whose argument may be left out
ARGUMENTS: dict[str, Sequence[str]] = {
    "files": FILES, "log": FILES, "shell": ("bash", "zsh", "fish", "csh"), "what": ("sizing", "json", "train", "x"),
    "command": ("train", "plan", "x"), "row": ("adamw", "vllm", "torch", "Q4_K_M", "x"), "name": ("gpt-3", "h100", "gpt2", "x"),
}  # fmt: skip
GPU_SHARE = 0.4  # of the lines that name an accelerator
ODD_SHARE = 0.04  # of the values that are anything
ODD = (
    "\x1b[31mred",
    "two\nlines",
    "\u202ereversed",
    "",
    "é",
    "nan",
    "inf",
    "-0",
    "1e400",
    "٣",
    "--",
    "x" * 300,
    "None",
    "true",
    "0x10",
    "1,5",
    "$1",
)
NOT_FINITE = re.compile(r"(?<![\w./'-])-?(inf|Infinity|nan|NaN)(?![\w./'-]| Cache)")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def command_lines(count: int, seed: int) -> Iterator[list[str]]:
    chance = random.Random(seed)
    for _ in range(count):
        name = chance.choices(list(COMMANDS), list(COMMANDS.values()))[0]
        yield [*name.split(), *_arguments(chance, name)]


def _arguments(chance: random.Random, name: str) -> Iterator[str]:
    command: click.Command = cli
    for part in name.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command, **cli.context_settings), part)
        assert found
        command = found
    for argument in (param for param in command.params if isinstance(param, click.Argument)):
        if argument.required or chance.random() < (0.3 if name in SELDOM_NAMED else 0.97):
            yield chance.choice(GPUS if name == "gpus" else ARGUMENTS.get(str(argument.name), MODELS))
    options = [param for param in command.params if isinstance(param, click.Option) and param.opts[0] not in UNSAID]
    for option in chance.sample(options, min(len(options), chance.choice((0, 1, 1, 2, 2, 3, 5)))):
        if option.opts[0] != "--gpu":
            yield from _typed(chance, option)
    if chance.random() < GPU_SHARE and any("--gpu" in option.opts for option in options):
        yield f"--gpu={chance.choice(GPUS)}"


def _typed(chance: random.Random, option: click.Option) -> Iterator[str]:
    word = option.opts[0]
    if option.is_flag:
        yield chance.choice([word, *option.secondary_opts])
        return
    values = NAMED.get(word) or tuple(choice for choice, _ in getattr(option, "choices", ()))
    values = values or getattr(option.type, "choices", None) or AMOUNTS.get(option.type.name, AMOUNTS["text"])
    yield f"{word}={chance.choice(ODD if chance.random() < ODD_SHARE else values)}"


def fault(words: list[str], codes: "Counter[object] | None" = None) -> str:
    """What is wrong with how a command line ends; empty where nothing is. `codes` counts the ends."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(words)
    except SystemExit as ended:
        code = ended.code
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if codes is not None:
        codes[code] += 1
    answer, said = out.getvalue(), err.getvalue()
    if code not in (0, 1, 2):
        return f"exit {code}: {said.strip()}"
    if code == 2 and not answer.startswith("Usage"):
        lines = said.splitlines()  # check says all that is wrong with its files at once
        if (
            answer
            or (len(lines) > 1 and words[0] != "check")
            or not all(line.startswith("memcalc: ") for line in lines or [""])
        ):
            return f"not one line: {said!r:.300} {answer!r:.100}"
    elif any(not line.startswith("memcalc: warning: ") for line in said.splitlines()):
        return f"an answer, and on stderr {said!r:.300}"
    if found := CONTROL.search(answer + said):
        return f"control character {found[0]!r} in {(answer + said)[max(0, found.start() - 60) : found.end() + 20]!r}"
    if (found := NOT_FINITE.search(answer)) and not any(found[0] in word for word in words):
        return f"{found[0]!r} in {answer[max(0, found.start() - 60) : found.end() + 20]!r}"
    return ""


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slow", type=float, default=4.0, help="seconds of CPU above which a line is printed too")
    asked = parser.parse_args()
    faults, codes, started = Counter[str](), Counter[object](), time.process_time()
    for words in command_lines(asked.lines, asked.seed):
        before = time.process_time()
        wrong = fault(words, codes)
        if wrong:
            faults[wrong[:60]] += 1
            print(f"memcalc {shlex.join(words)}\n  {wrong}", flush=True)
        if (seconds := time.process_time() - before) > asked.slow:
            print(f"memcalc {shlex.join(words)}\n  took {seconds:.1f} s", flush=True)
    print(f"{asked.lines} lines ended with {dict(codes)}, {sum(faults.values())} faults, {time.process_time() - started:.0f} s")
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(run())
