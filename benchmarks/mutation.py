"""What share of small random faults the tests notice: `python benchmarks/mutation.py --sample 300 --seed 1`.

Needs memcalc[mutation]. mutmut makes the faults: numbers one larger, operators and comparisons exchanged, arguments left out,
conditions forced either way, values replaced with None. Its own runner can't be used: it never touches decorated functions,
which all formulas are. Words are left alone: people judge them. Each fault is planted in a copy of the checkout.

A first run of all tests records which lines each of them touches, and how long it takes (some three minutes). A fault then
meets the tests that touch its statement; one in a table or a default those that read what the statement defines, then the
others. Short tests that do little else than run its file come first, the first that fails ends it, and after --seconds it has
survived: the share is a lower bound. Every run of tests is a fork that has pytest loaded (changed_copy.py), so most faults
take one or two seconds. The exit code is 1 when fewer than 85 % are killed; each survivor is printed as a difference, with the
number of tests that it met.
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
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import Mutation, MutationVisitor
from mutmut.mutation.mutators import mutation_operators, operator_string
from mutmut.mutation.pragma_handling import IgnoredCode
from touched_lines import touched

WANTED = 0.85
MUTATED = ("memcalc/formulas", "memcalc/specs", "memcalc/estimates")
# All that look at numbers; the examples in memcalc's own docstrings are tests.
FOLDERS = ("formulas", "specs", "golden", "estimates", "cli", "report", "blocks", "readers", "test_doors.py", "test_public.py")
TESTS = ("memcalc", *(f"tests/{name}" for name in FOLDERS))
FIRST = 100  # tests in the first round: importing every test file takes longer than most faults live
OPERATORS = [(node, operator) for node, operator in mutation_operators if operator is not operator_string]


class Mutant(NamedTuple):
    """A file of the checkout as a fault leaves it."""

    file: str
    text: str
    line: int

    @property
    def difference(self) -> str:
        lines = unified_diff(_read(self.file).splitlines(), self.text.splitlines(), self.file, self.file, n=0, lineterm="")
        return "\n".join(line for line in lines if not line.startswith("---"))

    @property
    def folder(self) -> str:
        return next(folder for folder in MUTATED if self.file.startswith(f"{folder}/"))


class Visitor(MutationVisitor):
    """mutmut's, in decorated functions too: it leaves them out because of how it calls a mutant, not how it makes one."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        return not (isinstance(node, cst.FunctionDef) and node.decorators) and super()._skip_node_and_children(node)


def sampled(files: list[str], number: int, seed: int) -> tuple[list[Mutant], int]:
    """So many mutants, all equally likely, and how many there are."""
    every: list[tuple[str, cst.Module, Mutation, int]] = []
    for file in files:
        wrapper = MetadataWrapper(cst.parse_module(_read(file)))
        visitor = Visitor(OPERATORS, IgnoredCode(set(), set(), set()))
        wrapper.visit(visitor)
        places = wrapper.resolve(PositionProvider)
        every += [(file, wrapper.module, one, places[one.original_node].start.line) for one in visitor.mutations]
    drawn = random.Random(seed).sample(every, min(number, len(every)))
    return [_mutant(*one) for one in drawn], len(every)


def _mutant(file: str, module: cst.Module, mutation: Mutation, line: int) -> Mutant:
    changed = module.deep_replace(mutation.original_node, mutation.mutated_node)
    assert isinstance(changed, cst.Module)
    return Mutant(file, changed.code, line)


def judged(mutant: Mutant, copies: "SimpleQueue[Copy]", tests: list[str]) -> Outcome:
    """What the first tests say, and where they notice nothing, the others."""
    copy = copies.get()
    try:
        return copy.outcome(mutant.file, mutant.text, *(part for part in (tests[:FIRST], tests[FIRST:]) if part))
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
@click.option("--workers", default=1, show_default=True, help="Copies in which tests run at once.")
@click.option("--seconds", default=30.0, show_default=True, help="How long the tests of a fault may take.")
def main(sample: int, seed: int, only: str, workers: int, seconds: float) -> None:
    drawn, all_ = sampled([file for file in _files() if only in file], sample, seed)
    print(f"{len(drawn)} of {all_} mutants, seed {seed}", flush=True)
    killed, drawn_of = Counter[str](), Counter(mutant.folder for mutant in drawn)
    with ExitStack() as stack:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for _ in range(workers):
            copies.put(copy := stack.enter_context(changed_copy()))
        record = touched(copy, MUTATED, TESTS)
        meets = [record.by(mutant.file, mutant.line, seconds) for mutant in drawn]
        with ThreadPoolExecutor(workers) as pool:
            outcomes = pool.map(lambda mutant, tests: judged(mutant, copies, tests), drawn, meets)
            for number, (mutant, tests, outcome) in enumerate(zip(drawn, meets, outcomes, strict=True), 1):
                killed[mutant.folder] += outcome.killed
                said = f"killed by {outcome.by}" if outcome.killed else f"SURVIVES {len(tests)} tests"
                print(f"{number}: {mutant.file}:{mutant.line}: {said}", flush=True)
                if not outcome.killed:
                    print(mutant.difference, flush=True)
    for folder, number in drawn_of.items():
        print(f"{folder}: {killed[folder]} of {number} killed")
    share = killed.total() / len(drawn)
    print(f"together: {killed.total()} of {len(drawn)} killed, {share:.1%}")
    sys.exit(share < WANTED)


if __name__ == "__main__":
    main()
