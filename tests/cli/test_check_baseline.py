"""`check --baseline`: signs, what is worse, git's files, and what cannot be compared with."""

import shutil
import subprocess

import pytest

BEFORE = """\
model = "gpt2"
gpu = "rtx-4090"
training = { micro_batch = 2 }
compute = { tokens = 1_000_000_000, price = 1.0, mfu = 0.4 }
[limits]
memory_utilization = 0.9
[scenario.same]
[scenario.grows]
[scenario.shrinks]
training.micro_batch = 4
[scenario.goes]
"""
NOW = BEFORE.replace("[scenario.grows]", "[scenario.grows]\ntraining.micro_batch = 4").replace(
    "training.micro_batch = 4\n[scenario.goes]", "training.micro_batch = 1\ncompute.price = 0.5\n[scenario.comes]"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "before.toml").write_text(BEFORE, encoding="utf-8")
    (tmp_path / "now.toml").write_text(NOW, encoding="utf-8")
    return tmp_path


def changes(found):
    return {each["name"]: each for each in found.document["baseline"]["scenarios"]}


def test_differences_have_signs_and_say_what_is_worse(memcalc, folder):
    found = memcalc("check", "now.toml", "--baseline", "before.toml", "--format", "json")
    each = changes(found)
    assert found.code == 0
    assert {name for name, change in each.items() if change["worse"]} == {"grows"}
    assert each["same"]["difference"] == {"device_memory": 0, "days": 0, "cost_usd": 0}
    assert each["grows"]["difference"]["device_memory"] > 0 > each["shrinks"]["difference"]["device_memory"]
    assert each["shrinks"]["difference"]["cost_usd"] == pytest.approx(-each["shrinks"]["now"]["cost_usd"])
    assert (each["comes"]["before"], each["goes"]["now"]) == (None, None)


def test_fail_on_worse_is_about_the_baseline_alone(memcalc, folder):
    assert memcalc("check", "now.toml", "--baseline", "before.toml", "--fail-on", "worse").code == 1
    same = NOW.replace("0.9", "0.01")
    (folder / "now.toml").write_text(same, encoding="utf-8")
    assert memcalc("check", "now.toml", "--baseline", "now.toml").code == 1
    assert memcalc("check", "now.toml", "--baseline", "now.toml", "--fail-on", "worse").code == 0
    found = memcalc("check", "now.toml", "--fail-on", "worse")
    assert (found.code, "worse than what?" in found.err) == (2, True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_files_at_a_commit(memcalc, folder):
    def git(*words):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, check=True, capture_output=True
        )

    found = memcalc("check", "now.toml", "--baseline", "HEAD")
    assert (found.code, "in no git repository" in found.err) == (2, True)
    git("init", "-q")
    (folder / "now.toml").write_text(BEFORE, encoding="utf-8")
    git("add", "now.toml")
    git("commit", "-qm", "x")
    (folder / "now.toml").write_text(NOW, encoding="utf-8")
    assert changes(memcalc("check", "now.toml", "--baseline", "HEAD", "--format", "json"))["grows"]["worse"]
    new = changes(memcalc("check", "before.toml", "--baseline", "HEAD", "--format", "json"))
    assert all(change["before"] is None for change in new.values())


@pytest.mark.parametrize("ref", ["--output=x", "HEAD:now.toml", "a b", "x;touch y", "..", "no-such-branch", "\n"])
def test_what_names_no_commit_is_refused_and_nothing_is_run(memcalc, folder, ref):
    found = memcalc("check", "now.toml", f"--baseline={ref}")
    assert (found.code, found.err.count("\n"), found.out) == (2, 1, "")
    assert sorted(path.name for path in folder.iterdir()) == ["before.toml", "now.toml"]
