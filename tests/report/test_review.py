"""Formats of code review: what a sizing file holds ends no annotation, attribute or table cell, and stands at its line."""

import json
import xml.etree.ElementTree as ET

import pytest

NASTY = 'a%0A::error::b,c:d\\"<&]]>|\\u001b[31m\\nnext'  # as TOML spells it
SIZING = f"""\
model = "gpt2"
gpu = "rtx-4090"
training = {{}}
[limits]
device_memory = 1000
[scenario."{NASTY}"]
[scenario.roomy]
limits = {{ device_memory = "24GiB" }}
"""
BROKEN = SIZING.replace("device_memory = 1000", "device_memry = 1000")


@pytest.fixture
def asked(memcalc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def ask(text, format_, name="a,b.toml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return memcalc("check", name, "--format", format_)

    return ask


def test_github_annotations_are_one_line_each_at_the_limit(asked):
    found = asked(SIZING, "github")
    (line,) = found.out.splitlines()
    assert found.code == 1
    assert line.startswith("::error file=a%2Cb.toml,line=5,title=memcalc%3A a%250A%3A%3Aerror%3A%3Ab%2Cc%3Ad")
    assert "\x1b" not in line
    assert "::device_memory is " in line


def test_github_says_that_all_hold(asked):
    found = asked(SIZING.replace("1000", '"24GiB"'), "github")
    assert (found.code, found.out) == (0, "::notice title=memcalc::OK: 2 limits, all hold\n")


@pytest.mark.parametrize("format_", ["github", "sarif", "junit"])
def test_a_wrong_file_is_shown_at_its_line_and_on_stderr(asked, format_):
    found = asked(BROKEN, format_)
    assert found.code == 2
    assert "a,b.toml:5" in found.err
    assert "unknown key; did you mean device_memory?" in found.out


def test_a_file_that_is_no_toml_is_shown_where_it_ends_being_so(asked):
    found = asked("model = 'x'\n[limits\nx = 1", "github")
    assert (found.code, found.out.startswith("::error file=a%2Cb.toml,line=2,title=memcalc%3A file::not TOML")) == (2, True)


def test_junit_is_xml_with_a_case_for_each_limit(asked):
    suites = ET.fromstring(asked(SIZING, "junit").out)
    (suite,) = suites
    assert (suite.tag, suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("testsuite", "2", "1", "0")
    failed, held = suite
    assert failed.get("classname").startswith('a%0A::error::b,c:d"<&]]>|\\x1b[31m\\nnext')
    assert failed.find("failure").get("message").startswith("device_memory is ")
    assert held.find("failure") is None
    (wrong,) = ET.fromstring(asked(BROKEN, "junit").out).iter("error")
    assert wrong.text.startswith("a,b.toml:5: ")


def test_sarif_has_what_its_schema_requires(asked):
    """SARIF 2.1.0, §3.13 (version), §3.14 (tool), §3.27 (message, ruleId among the rules), §3.30 (lines from 1)."""
    document = json.loads(asked(SIZING, "sarif").out)
    (run,) = document["runs"]
    assert document["version"] == "2.1.0"
    assert run["tool"]["driver"]["name"] == "memcalc"
    (result,) = run["results"]
    assert result["ruleId"] in {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert result["level"] in ("none", "note", "warning", "error")
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("a%2Cb.toml", 5)
    assert result["message"]["text"].isprintable()


def test_markdown_is_a_comment_that_can_be_found_again(asked):
    text = asked(SIZING, "markdown").out
    assert text.startswith("<!-- memcalc check -->\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 3
    assert all(row.replace("\\|", "").count("|") == rows[0].count("|") for row in rows)
    assert "<&" not in text


@pytest.mark.parametrize("format_", ["github", "sarif", "junit"])
def test_other_commands_do_not_offer_them(memcalc, format_):
    found = memcalc("train", "gpt2", "--format", format_)
    assert (found.code, "--format" in found.err) == (2, True)
