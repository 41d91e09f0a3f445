"""The search for changes: cheapest first, nothing that is not needed, no more estimates than there should be."""

from functools import partial
from typing import Any, NamedTuple

import pytest

from memcalc.errors import MemcalcError
from memcalc.estimates.search import MAX_SUGGESTIONS, Search
from memcalc.estimates.suggestions import Changes, Ladder, Lever, Settings, Subject
from memcalc.estimates.training.changes import more_flops
from memcalc.formulas.verdict import Fit, Needed
from memcalc.sizing.answer import fit_of
from memcalc.sizing.training import size_training


class Toy(NamedTuple):
    """An estimate of nothing but sizes."""

    run: Settings
    fit: Fit


def saves(name: str, amount: int, s: Subject) -> Settings | None:
    return None if name in s.run else {name: amount}


def no_cost(before: Any, after: Any) -> str:
    return ""


A, B, C = (Lever(name, (partial(saves, name, size // 2), partial(saves, name, size)), no_cost) for name, size in
           (("a", 10), ("b", 20), ("c", 60)))  # fmt: skip
REFUSED = Lever("refused", (partial(saves, "refused", 500),), no_cost)


def toy(limit: int, settings: Settings) -> Toy:
    if "refused" in settings:
        raise MemcalcError("these do not go together")
    needed = 100 - sum(settings.values())
    return Toy(settings, Fit(Needed(needed, needed, needed + 10), limit))


def search(limit: int, *ladders: Ladder, levers: tuple[Lever, ...] = (REFUSED, A, B, C)) -> list[tuple[Settings, str]]:
    start = toy(limit, {})
    nothing = Subject({}, None, None)
    found = Search(
        Changes(levers, ladders), nothing, start.fit, lambda s: nothing._replace(run=s), partial(toy, limit), (fit_of,)
    )
    return [(tried.changes, tried.fit.verdict) for tried in found.run()]


# limit, ladder, what is found
SEARCHES: tuple[tuple[int, tuple[Lever, ...], list[tuple[Settings, str]]], ...] = (
    (95, (), [({"a": 5}, "tight"), ({"b": 10}, "tight"), ({"b": 20}, "fits"), ({"c": 30}, "fits")]),
    (100, (), [({"a": 10}, "fits"), ({"b": 10}, "fits"), ({"c": 30}, "fits")]),
    (70, (A, B), [({"a": 10, "b": 20}, "tight"), ({"c": 30}, "tight"), ({"c": 60}, "fits")]),
    (45, (A, B, C), [({"a": 5, "b": 20, "c": 30}, "tight"), ({"a": 5, "c": 60}, "fits")]),
    (20, (A, B, C), [({"a": 10, "b": 10, "c": 60}, "tight"), ({"a": 10, "b": 20, "c": 60}, "fits")]),
    (5, (A, B, C), []),
)  # fmt: skip


@pytest.mark.parametrize(("limit", "ladder", "expected"), SEARCHES)
def test_search(limit: int, ladder: tuple[Lever, ...], expected: list[tuple[Settings, str]]) -> None:
    assert search(limit, Ladder(ladder)) == expected


def test_what_a_ladder_is_about_stays() -> None:
    assert ({"c": 30, "b": 20}, "tight") not in search(70, Ladder((A, B), (C,)))
    assert search(85, Ladder((A, B), (C,)), levers=(A, B, C._replace(alone=False)))[-1] == ({"c": 30}, "fits")


def test_other_hardware_only_where_nothing_else_does() -> None:
    other = Lever("gpu", (partial(saves, "gpu", 90),), no_cost, hardware=True)
    owned = search(80, Ladder((A, B)), levers=(A._replace(options=A.options * 1), B, C, other))
    assert owned[-1] == ({"gpu": 90}, "fits"), "fewer than three surely fit"
    assert all("gpu" not in changes for changes, _ in search(110, Ladder((A, B)), levers=(A, B, C, other)))


def test_what_comes_out_was_before_the_last_judge() -> None:
    """A quick judge that sees less than there is: its mistakes are found, what it says no to is not asked again."""
    asked: list[Settings] = []

    def quick(answer: Toy) -> Fit:
        return Fit(Needed(*(size - 12 for size in answer.fit.needed)), answer.fit.limit)

    def last(answer: Toy) -> Fit:
        asked.append(answer.run)
        return answer.fit

    for limit, ladder, expected in SEARCHES:
        asked.clear()
        start, nothing, size = toy(limit, {}), Subject({}, None, None), partial(toy, limit)
        table = Changes((REFUSED, A, B, C), (Ladder(ladder),))
        found = Search(table, nothing, start.fit, lambda s, n=nothing: n._replace(run=s), size, (quick, quick, last)).run()
        assert all(tried.fit == toy(limit, tried.changes).fit and tried.changes in asked for tried in found)
        assert len(asked) == len({str(settings) for settings in asked}) <= 12, asked
        assert {verdict for _, verdict in expected} <= {tried.fit.verdict for tried in found}, (limit, found)


CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("llama-3.2-1b", "rtx-3060-12", {}),
    ("llama-3.1-405b", "rtx-3060-12", {}),
    ("deepseek-v3", "h100-sxm-80", {"gpus": 8}),
    ("mixtral-8x7b", "h100-sxm-80", {"gpus": 8, "micro_batch": 64}),
    ("kimi-linear-48b-a3b", "h100-sxm-80", {"gpus": 8}),  # what fits by its own word, with a part that the last judge refused
)


@pytest.mark.parametrize(("model", "gpu", "said"), CASES)
def test_bounded(model: str, gpu: str, said: dict[str, Any]) -> None:
    step = size_training(model, gpu, **said)
    assert step.fit
    search = step.search(step.fit)
    assert len(search.run()) <= MAX_SUGGESTIONS
    assert search.estimates <= 200, f"{search.estimates} estimates"


def test_python_has_the_same() -> None:
    step = size_training("llama-3.1-8b", "h100", gpus=8, fsdp="full", seq_len=65536)
    for each in step.suggestions:
        again = size_training("llama-3.1-8b", gpus=8, fsdp="full", **{"gpu": "h100", "seq_len": 65536} | each.changes)
        assert (again.device, again.verdict) == (each.device, each.verdict), each.flags


PLAIN: dict[str, Any] = {}
FULL: dict[str, Any] = {"recompute": "full"}


@pytest.mark.parametrize(
    ("asked", "changed", "low", "high"),
    [
        (PLAIN, PLAIN, 0, 0),
        (PLAIN, FULL, 0.28, 1 / 3),  # one forward more on top of three, less the head's
        (PLAIN, FULL | {"recompute_every": 2}, 0.14, 1 / 6),
        ({"method": "lora"}, FULL | {"method": "lora"}, 0.42, 0.5),  # one on top of two
        (PLAIN, FULL | {"method": "lora"}, 0.28, 1 / 3),  # of what was asked for, which trains everything
        (PLAIN, {"recompute": "selective"}, 0.001, 0.1),
        ({"recompute": "selective"}, FULL, 0.2, 0.32),
        (FULL | {"recompute_every": 2}, FULL, 0.12, 1 / 7),  # half a forward on top of three and a half
        ({"seq_len": 8192}, FULL, 0.25, 1 / 3),  # of each token
    ],
)
def test_more_flops_than_the_run_as_asked(asked: dict[str, Any], changed: dict[str, Any], low: float, high: float) -> None:
    share = more_flops(*(size_training("llama-3.1-8b", **said) for said in (asked, changed)))
    assert low <= share <= high, share
