"""Pages: well formed, self-contained, everything quoted escaped, the same numbers as the table; and traces of a step."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from memcalc.report.html import render
from memcalc.report.report import Column, Report, Table

Run = Callable[..., Any]
COMMANDS = (
    ("train", "llama-3.1-8b", "--gpus", "8", "--zero", "3", "--gpu", "h100"), ("infer", "llama-3.1-8b", "--gpu", "l4"),
    ("compare", "train", "gpt2", "--vary", "micro_batch=1,2", "--vary", "recompute=none,full"), ("bytes",), ("gpus",),
    ("budget", "llama-3.1-8b", "--tokens", "1T", "--gpu", "h100", "--gpus", "64"), ("chinchilla", "--params", "7B"),
    ("inspect", "gpt2"), ("plan", "train", "gpt2", "--gpu", "4090", "--gpus", "1,2"), ("optimizers",),
    ("train", "gpt2", "--explain", "peak"),
)  # fmt: skip
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Checker(HTMLParser):
    """Every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(page: str) -> Checker:
    found = Checker()
    found.feed(page)
    found.close()
    assert not found.open
    return found


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_every_command_has_a_page(memcalc: Run, words: tuple[str, ...]) -> None:
    page = memcalc(*words, "--format", "html").out
    found = checked(page)
    assert page.startswith("<!doctype html>")
    assert "script" not in found.tags
    assert all(link.startswith("#") for link in found.links)  # footnotes; nothing is fetched
    assert all(f'id="{link[1:]}"' in page for link in found.links)
    assert not re.search(r"url\(|@import", page)


def test_numbers_are_those_of_the_table(memcalc: Run) -> None:
    table = memcalc(*COMMANDS[0]).out
    page = memcalc(*COMMANDS[0], "--format", "html").out
    for number in re.findall(r"\d+\.\d\d GiB", table):
        assert number in page


def test_what_is_quoted_is_escaped() -> None:
    evil = '<script>alert(1)</script>"&'
    tables = (Table(evil, (Column(evil),), [(evil,)]),)
    report = Report({"sources": {evil: {"title": evil}}}, tables, evil, evil, "bad", (evil,), settings=evil,
                    warnings=(evil,), assumptions=(evil,))  # fmt: skip
    page = render(report)
    assert "<script" not in page
    checked(page)


def test_the_step_is_drawn_moment_by_moment(memcalc: Run) -> None:
    page = memcalc(*COMMANDS[0], "--format", "html").out
    order = ["loss", "backward of the last layer", "backward of the first layer", "optimizer step"]
    places = [page.index(f">{name}</text>") for name in order]
    assert places == sorted(places)


def test_a_trace_has_every_moment(memcalc: Run, tmp_path: Path) -> None:
    words = ("train", "gpt2", "--gpu", "l4")
    trace = json.loads(memcalc(*words, "--format", "perfetto").out)
    moments = memcalc(*words, "--format", "json").document["moments"]
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    counters = [event for event in trace["traceEvents"] if event["ph"] == "C"]
    assert {event["name"]: sum(event["args"].values()) for event in slices} == {
        each["name"]: each["allocated"] for each in moments
    }
    assert [sum(event["args"].values()) for event in counters] == [sum(event["args"].values()) for event in slices]
    assert slices[-1]["name"] == "optimizer step"
    assert memcalc("infer", "gpt2", "--format", "perfetto").code == 2
