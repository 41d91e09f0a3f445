"""What share of small random faults the tests notice: `python benchmarks/mutation.py --sample 300 --seed 1`.

Needs memcalc[mutation]. mutmut makes the faults: numbers one larger, operators and comparisons exchanged, arguments left out,
conditions forced either way, values replaced with None. Its own runner can't be used: it never touches decorated functions,
which all formulas are. Words are left alone: people judge them. Each fault is planted in a copy of the checkout; a first round
runs the tests that lie nearest, a second round all others that look at numbers. The exit code is 1 when fewer than 85 % are
killed; each survivor is printed as a difference.
"""

import random
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from difflib import unified_diff
from queue import SimpleQueue
from typing import NamedTuple

import click
import libcst as cst
from changed_copy import ROOT, Copy, Outcome, changed_copy
from libcst.metadata import MetadataWrapper
from mutmut.mutation.file_mutation import Mutation, MutationVisitor
from mutmut.mutation.mutators import mutation_operators, operator_string
from mutmut.mutation.pragma_handling import IgnoredCode

WANTED = 0.85
MUTATED = ("memcalc/formulas", "memcalc/specs", "memcalc/estimates")
# A folder of code, and the tests that run first; FILE is the module itself, whose examples are tests.
NEAREST = {
    "memcalc/formulas": ("FILE", "tests/formulas", "tests/golden"),
    "memcalc/specs": ("tests/specs", "tests/golden", "tests/test_public.py"),
    "memcalc/estimates": ("FILE", "tests/golden"),
}
OTHERS = ("tests/estimates", "tests/specs", "tests/cli", "tests/report", "tests/blocks", "tests/readers", "tests/test_doors.py")
OPERATORS = [(node, operator) for node, operator in mutation_operators if operator is not operator_string]


class Mutant(NamedTuple):
    """A file of the checkout as a fault leaves it."""

    file: str
    text: str

    @property
    def difference(self) -> str:
        lines = unified_diff(_read(self.file).splitlines(), self.text.splitlines(), self.file, self.file, n=0, lineterm="")
        return "\n".join(line for line in lines if not line.startswith("---"))

    @property
    def folder(self) -> str:
        return next(folder for folder in NEAREST if self.file.startswith(f"{folder}/"))


class Visitor(MutationVisitor):
    """mutmut's, in decorated functions too: it leaves them out because of how it calls a mutant, not how it makes one."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        return not (isinstance(node, cst.FunctionDef) and node.decorators) and super()._skip_node_and_children(node)


def sampled(files: list[str], number: int, seed: int) -> tuple[list[Mutant], int]:
    """So many mutants, all equally likely, and how many there are."""
    every: list[tuple[str, cst.Module, Mutation]] = []
    for file in files:
        wrapper = MetadataWrapper(cst.parse_module(_read(file)))
        visitor = Visitor(OPERATORS, IgnoredCode(set(), set(), set()))
        wrapper.visit(visitor)
        every += [(file, wrapper.module, mutation) for mutation in visitor.mutations]
    drawn = random.Random(seed).sample(every, min(number, len(every)))
    return [_mutant(*one) for one in drawn], len(every)


def _mutant(file: str, module: cst.Module, mutation: Mutation) -> Mutant:
    changed = module.deep_replace(mutation.original_node, mutation.mutated_node)
    assert isinstance(changed, cst.Module)
    return Mutant(file, changed.code)


def nearest(folder: str, file: str) -> tuple[str, ...]:
    """The tests of a folder that run first, with the examples of one file or of all."""
    return tuple(file if name == "FILE" else name for name in NEAREST[folder])


def judged(mutant: Mutant, copies: "SimpleQueue[Copy]", thorough: bool) -> Outcome:
    """What the nearest tests say, and where they notice nothing, the others."""
    copy = copies.get()
    try:
        outcome = copy.outcome(mutant.file, mutant.text, nearest(mutant.folder, mutant.file))
        return copy.outcome(mutant.file, mutant.text, OTHERS) if thorough and not outcome.killed else outcome
    finally:
        copies.put(copy)


def _read(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def _files() -> list[str]:
    found = (path for folder in MUTATED for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@click.command()
@click.option("--sample", default=300, show_default=True, help="How many mutants.")
@click.option("--seed", default=1, show_default=True, help="Which ones: the same seed draws the same from the same code.")
@click.option("--only", default="", metavar="TEXT", help="Only files whose path contains TEXT.")
@click.option("--workers", default=1, show_default=True, help="Copies that run at once.")
@click.option("--thorough/--nearest", default=True, show_default=True, help="Whether survivors meet the other tests.")
def main(sample: int, seed: int, only: str, workers: int, thorough: bool) -> None:
    drawn, all_ = sampled([file for file in _files() if only in file], sample, seed)
    print(f"{len(drawn)} of {all_} mutants, seed {seed}", flush=True)
    killed, drawn_of = Counter[str](), Counter(mutant.folder for mutant in drawn)
    with ExitStack() as stack:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for _ in range(workers):
            copies.put(copy := stack.enter_context(changed_copy()))
        used = sorted({mutant.folder for mutant in drawn})
        for tests in (*(nearest(folder, folder) for folder in used), *((OTHERS,) if thorough else ())):
            if (clean := copy.tested(tests)).killed:
                sys.exit(f"{' '.join(tests)} fails without any fault: {clean.by}")
        with ThreadPoolExecutor(workers) as pool:
            outcomes = pool.map(lambda mutant: judged(mutant, copies, thorough), drawn)
            for number, (mutant, outcome) in enumerate(zip(drawn, outcomes, strict=True), 1):
                killed[mutant.folder] += outcome.killed
                print(f"{number}: {mutant.file}: {'killed by ' + outcome.by if outcome.killed else 'SURVIVES'}", flush=True)
                if not outcome.killed:
                    print(mutant.difference, flush=True)
    for folder, number in drawn_of.items():
        print(f"{folder}: {killed[folder]} of {number} killed")
    share = killed.total() / len(drawn)
    print(f"together: {killed.total()} of {len(drawn)} killed, {share:.1%}")
    sys.exit(share < WANTED)


if __name__ == "__main__":
    main()
