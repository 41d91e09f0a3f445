"""Shell as far as its text determines it: what a script's words come to."""

import pytest

from memcalc.readers.launch.shell.conditions import decide
from memcalc.readers.launch.shell.run import Runner

FILES = {"models/small.sh": "ARGS=(--layers 2)\n"}
# script, the words of the last program that it starts; bash 5 gives the same, except where "as people mean it" is said
WORDS = (
    ("x a b", "x a b"),
    ("A=1; x $A ${A} '$A' \"$A\"", "x 1 1 $A 1"),
    ("x ${A:-2} ${A-3} ${1:-4}", "x 2 3 4"),
    ("A=5; x ${A:+yes} ${B:+no}", "x yes"),
    ("x \\\n  --a 1 \\\n  --b 2", "x --a 1 --b 2"),
    ("x --a 1 \\\n  # as people mean it\n  --b 2\n", "x --a 1 --b 2"),
    ("x `# a comment` --a 1", "x --a 1"),
    ("A=(--a 1  # why\n --b 2\n)\nx ${A[@]}", "x --a 1 --b 2"),
    ('A=(--a "1 2"); x "${A[@]}"', "x|--a|1 2"),
    ('A=(a); A+=(b); x "${A[*]}"', "x|a b"),
    ('O=" --a 1"; O+=" --b 2"; x $O', "x --a 1 --b 2"),
    ('O="--a 1"; O="$O --b 2"; x $O', "x --a 1 --b 2"),
    ("A=4; B=$((A * 2)); x $B $(( B / 3 )) $((B+A))", "x 8 2 12"),
    ("A=$(expr 24 / 2 / 3); x $A", "x 4"),
    ("x $((9/0)) done", "x $((9/0)) done"),
    ("for r in a b; do O+=\" --${r}_n 1\"; done; x $O", "x --a_n 1 --b_n 1"),
    ("A=b; if [ \"$A\" = b ]; then C=1; else C=2; fi; x $C", "x 1"),
    ("if [[ -z $A ]]; then A=3; fi; x $A", "x 3"),
    ("A=4; [ $A -gt 3 ] && B=yes; x $B", "x yes"),
    ("A=4; [ $A -gt 9 ] || B=no; x $B", "x no"),
    ("case big in small) A=1;; b*) A=2;; *) A=3;; esac; x $A", "x 2"),
    ("f() { x $1 --of $2; }\nf 1 2", "x 1 --of 2"),
    ("C='x --a 1'; $C", "x --a 1"),
    ("C='x --a 1'; eval \"$C\"", "x --a 1"),
    ("A=7; run bash -c \"x $A\"", "run x 7"),
    ("A=7; run bash -x -c 'x $A'", "run x 7"),
    ("A=3 x --a 1", "x --a 1"),
    ("source models/small.sh; x ${ARGS[@]}", "x --layers 2"),
    ("A=a/b/c.txt; x ${A##*/} ${A%.txt} ${A/b/d}", "x c.txt a/b/c a/d/c.txt"),
    ("A=Big; x ${A,,} ${#A}", "x big 3"),
    ("x a > out 2>&1 &", "x a"),
    ("A=1\nif [ -f there ]; then A=2; fi\nx $A", "x 1"),  # of a file nothing is known: as it was, with a note
    ("if [ $N -gt 1 ]; then A=2; else A=1; fi; x $A", "x ${A}"),  # nobody set N, so nobody knows A
    ("N=9; x $( [[ $N -gt 4 ]] && nproc || echo 10 ) -b", "x|$(    N -gt 4     nproc   echo 10 )|-b"),
    ("x $(hostname) $UNSET", "x $(hostname) ${UNSET}"),
    ("sbatch <<EOF\n#!/bin/sh\nx 1\nEOF\n", "x 1"),
    ("x 'a\nb' c", "x|a\nb|c"),
)  # fmt: skip


@pytest.mark.parametrize(("script", "wanted"), WORDS)
def test_words(script: str, wanted: str) -> None:
    runner = Runner("script", FILES.get)
    runner.follow(script)
    words = [word.text for word in runner.script.commands[-1].words]
    assert words == (wanted.split("|") if "|" in wanted else wanted.split(" ")), words


def test_a_here_document_is_a_file() -> None:
    runner = Runner("script", FILES.get)
    runner.follow("A=3\ncat > f.yml <<EOF\na: $A\nEOF\ncat <<'EOF' > g.yml\na: $A\nEOF\n")
    assert runner.script.files == {"f.yml": "a: 3", "g.yml": "a: $A"}


def test_lines_are_those_of_the_words() -> None:
    runner = Runner("script", FILES.get)
    runner.follow("# one\n\nx \\\n  --a \\\n  --b 2\n")
    assert [(word.text, word.line) for word in runner.script.commands[0].words] == [("x", 3), ("--a", 4), ("--b", 5), ("2", 5)]


def test_what_is_not_decided_is_told() -> None:
    runner = Runner("script", FILES.get)
    runner.follow("A=1\nif [ -f there ]; then A=2; fi\nsource elsewhere.sh\n")
    assert any(":2: A may change in an if" in note for note in runner.script.notes)
    assert any("elsewhere.sh is read by the script and is not here" in note for note in runner.script.notes)


@pytest.mark.parametrize(("words", "held"), [(["1", "-lt", "2"], True), (["!", "-z", "a"], True), (["a", "!=", "a*"], False),
                                             (["", "-eq", "1"], None), (["-d", "x"], None)])  # fmt: skip
def test_conditions(words: list[str], held: bool | None) -> None:
    assert decide(words) is held
