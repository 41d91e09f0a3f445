"""Cold start, measured as whole processes: `python benchmarks/cold_start.py [RUNS]`.

Each command is run in turn with its yardstick; CPU time of the child process, minimum and median.
"""

import os
import resource
import statistics
import subprocess
import sys

PYTHON = [sys.executable, "-c"]
MEMCALC = [sys.executable, "-m", "memcalc"]
TRAIN = [*MEMCALC, "train", "llama-3.1-8b", "--gpus", "8", "--zero", "3"]
CLICK = [*PYTHON, "import click"]
PYDANTIC = [*PYTHON, "import click; from pydantic import BaseModel"]
RICH = [*PYTHON, "import click; from pydantic import BaseModel; import rich.console, rich.table"]
PAIRS = (
    ("--version", [*MEMCALC, "--version"], CLICK),
    ("--help", [*MEMCALC, "--help"], CLICK),
    ("train --format json", [*TRAIN, "--format", "json"], PYDANTIC),
    ("train --format table", TRAIN, RICH),
)
# As installed: byte code is cached, also where the environment says otherwise.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print(f"{'command':<24}{'min ms':>8}{'median':>8}{'yardstick':>11}{'median':>8}{'ratio of minima':>17}")
    for name, command, yardstick in PAIRS:
        cpu_seconds(command)
        pairs = [(cpu_seconds(command), cpu_seconds(yardstick)) for _ in range(runs)]
        ours, theirs = ([1000 * seconds for seconds in column] for column in zip(*pairs, strict=True))
        print(
            f"{name:<24}{min(ours):>8.0f}{statistics.median(ours):>8.0f}{min(theirs):>11.0f}"
            f"{statistics.median(theirs):>8.0f}{min(ours) / min(theirs):>17.2f}"
        )


if __name__ == "__main__":
    main()
