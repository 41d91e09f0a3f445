"""What a repository uses in CI: the action's script, the templates, completion."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "ci" / "sizing" / "memcalc.toml"
yaml = pytest.importorskip("yaml")
TITAN = '[model]\nname = "llama3"\nflavor = "8B"\n[training]\nlocal_batch_size = 1\nseq_len = 4096\n[parallelism]\n'


def action(folder, **environment):
    """The action's script, with a memcalc of this Python."""
    (folder / "memcalc").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m memcalc "$@"\n', encoding="utf-8")
    (folder / "memcalc").chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(ROOT / "ci" / "check.sh")], cwd=folder, capture_output=True, encoding="utf-8", check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, **environment},
    )  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_action_annotates_summarises_and_fails(tmp_path):
    summary = tmp_path / "summary.md"
    shutil.copy(EXAMPLE, tmp_path / "memcalc.toml")
    held = action(tmp_path, GITHUB_STEP_SUMMARY=str(summary))
    assert (held.returncode, held.stdout.startswith("::notice")) == (0, True), held.stderr
    assert summary.read_text(encoding="utf-8").startswith("<!-- memcalc check -->")
    tight = EXAMPLE.read_text(encoding="utf-8").replace("= 0.9", "= 0.05")
    (tmp_path / "tight.toml").write_text(tight, encoding="utf-8")
    failed = action(tmp_path, FILES="memcalc.toml tight.toml")
    assert (failed.returncode, failed.stdout.startswith("::error file=tight.toml,line=15,")) == (1, True), failed.stdout
    worse = action(tmp_path, FILES="tight.toml", BASELINE="memcalc.toml", FAIL_ON="worse")
    assert worse.returncode == 1
    assert action(tmp_path, FILES="missing.toml").returncode == 2
    (tmp_path / "titan.toml").write_text(TITAN, encoding="utf-8")
    assert [action(tmp_path, FILES="titan.toml", GPU="h100", GPUS=gpus).returncode for gpus in ("8", "1", "")] == [0, 1, 2]


def test_templates_name_what_there_is(memcalc):
    read = {name: yaml.safe_load((ROOT / name).read_text(encoding="utf-8")) for name in (
        "action.yml", ".pre-commit-hooks.yaml", "ci/gitlab.yml", "examples/ci/workflow.yml")}  # fmt: skip
    asked = read["examples/ci/workflow.yml"]["jobs"]["memcalc"]["steps"][-1]["with"]
    assert asked.keys() <= read["action.yml"]["inputs"].keys()
    (hook,) = read[".pre-commit-hooks.yaml"]
    assert memcalc(*hook["entry"].split()[1:], str(EXAMPLE)).code == 0
    command = read["ci/gitlab.yml"]["memcalc"]["script"][-1].replace("$MEMCALC_FILES $MEMCALC_OPTIONS", str(EXAMPLE))
    assert memcalc(*command.replace(" --output memcalc.xml", "").split()[1:]).code == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train llama-3.1-7", "llama-3.1-70b"),
        ("train x --gpu h100-s", "h100-sxm-80"),
        ("train x --optimizer adamw-8", "adamw-8bit"),
        ("train x --engine megat", "megatron"),
        ("infer x --engine vll", "vllm"),
        ("train x --recompute sel", "selective"),
        ("train x --objective dp", "dpo"),
        ("train x --reference pre", "precomputed"),
    ],
)
def test_values_complete(line, expected):
    words = ["memcalc", *line.split()]
    found = subprocess.run(
        [sys.executable, "-m", "memcalc"], capture_output=True, encoding="utf-8", check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "_MEMCALC_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words),
             "COMP_CWORD": str(len(words) - 1)},
    )  # fmt: skip
    assert f"plain,{expected}" in found.stdout.splitlines()


def test_files_complete_as_files():
    found = subprocess.run(
        [sys.executable, "-m", "memcalc"], capture_output=True, encoding="utf-8", check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "_MEMCALC_COMPLETE": "bash_complete",
             "COMP_WORDS": "memcalc plan train --from examp", "COMP_CWORD": "4"},
    )  # fmt: skip
    assert "file,examp" in found.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_names_its_shell(memcalc, shell):
    found = memcalc("completion", shell)
    assert (found.code, f"{shell}_complete" in found.out) == (0, True)
