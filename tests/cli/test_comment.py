"""A comment that replaces itself: ci/comment.py beside a server that keeps comments as the forges do, and in the action."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "ci" / "comment.py"
MARKER = "<!-- memcalc check -->"


class Kept(BaseHTTPRequestHandler):
    """Lists, adds and changes comments; answers `refuses` where it is set."""

    comments: list[dict[str, Any]]
    refuses = 0
    seen: list[tuple[str, str, str]]

    def _answer(self, document: Any) -> None:
        code = type(self).refuses or 200
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def _body(self) -> str:
        found: str = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"]
        return found

    def _see(self) -> None:
        token = self.headers.get("Authorization") or self.headers.get("PRIVATE-TOKEN") or ""
        self.seen.append((self.command, urlsplit(self.path).path, token))

    def do_GET(self) -> None:
        self._see()
        asked = parse_qs(urlsplit(self.path).query)
        page, size = int(asked["page"][0]), int(asked["per_page"][0])
        self._answer(self.comments[(page - 1) * size : page * size])

    def do_POST(self) -> None:
        self._see()
        self.comments.append({"id": 1000 + len(self.comments), "body": self._body()})
        self._answer({})

    def _change(self) -> None:
        self._see()
        number = int(self.path.rpartition("/")[2])
        next(each for each in self.comments if each["id"] == number)["body"] = self._body()
        self._answer({})

    def do_PATCH(self) -> None:
        self._change()

    def do_PUT(self) -> None:
        self._change()

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Kept]]]:
    kept = type("KeptHere", (Kept,), {"comments": [], "seen": [], "refuses": 0})
    running = ThreadingHTTPServer(("127.0.0.1", 0), kept)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}", kept
    running.shutdown()
    running.server_close()


def github(address: str) -> dict[str, str]:
    return {"GITHUB_API_URL": address, "GITHUB_REPOSITORY": "a/b", "GITHUB_REF": "refs/pull/7/merge", "GITHUB_TOKEN": "t"}


def gitlab(address: str) -> dict[str, str]:
    return {"CI_API_V4_URL": address, "CI_PROJECT_ID": "5", "CI_MERGE_REQUEST_IID": "7", "MEMCALC_TOKEN": "t"}


def run(report: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "CI_"))}
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(report)], capture_output=True, text=True, check=False, timeout=60,
        env={**clean, "NO_PROXY": "*", "no_proxy": "*", **env},
    )  # fmt: skip


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.md"
    path.write_text(f"{MARKER}\n# first\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("forge", [github, gitlab])
def test_a_comment_is_made_once_and_then_replaced(server: Any, report: Path, forge: Any) -> None:
    address, kept = server
    kept.comments += [{"id": number, "body": "something else"} for number in range(130)]  # it stands on a second page
    assert run(report, forge(address)).returncode == 0
    report.write_text(f"{MARKER}\n# second\n", encoding="utf-8")
    done = run(report, forge(address))
    assert (done.returncode, done.stderr.strip()) == (0, "replaced the earlier comment")
    ours = [each["body"] for each in kept.comments if each["body"].startswith(MARKER)]
    assert ours == [f"{MARKER}\n# second\n"]
    assert all("t" in token for *_, token in kept.seen)


def test_where_comments_are(server: Any, report: Path) -> None:
    """docs.github.com/rest/issues/comments; docs.gitlab.com/api/notes."""
    address, kept = server
    run(report, github(address))
    run(report, github(address))
    assert [(method, path) for method, path, _ in kept.seen] == [
        ("GET", "/repos/a/b/issues/7/comments"), ("POST", "/repos/a/b/issues/7/comments"),
        ("GET", "/repos/a/b/issues/7/comments"), ("PATCH", "/repos/a/b/issues/comments/1000"),
    ]  # fmt: skip
    kept.seen.clear()
    kept.comments.clear()
    run(report, gitlab(address))
    run(report, gitlab(address))
    assert [(method, path) for method, path, _ in kept.seen][1::2] == [
        ("POST", "/projects/5/merge_requests/7/notes"), ("PUT", "/projects/5/merge_requests/7/notes/1000"),
    ]  # fmt: skip


def test_a_token_that_may_not_write_fails_nothing(server: Any, report: Path) -> None:
    address, kept = server
    kept.refuses = 403
    done = run(report, github(address))
    assert (done.returncode, "may not write" in done.stderr) == (0, True)


def test_what_is_missing_is_said_in_one_line(report: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.md"
    plain.write_text("no marker", encoding="utf-8")
    for path, env, said in ((report, {}, "is not set"), (plain, github("http://127.0.0.1:9"), "no marker"),
                            (report, github("http://127.0.0.1:9"), "no answer")):  # fmt: skip
        done = run(path, env)
        assert done.returncode == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def test_long_reports_are_cut_between_lines(server: Any, report: Path) -> None:
    address, kept = server
    report.write_text(MARKER + "\n" + "| a line |\n" * 20_000, encoding="utf-8")
    run(report, github(address))
    body = kept.comments[-1]["body"]
    assert len(body) < 65_536
    assert re.search(r"\| a line \|\n\n\(the rest is", body)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_action_comments(server: Any, tmp_path: Path) -> None:
    """From a clean checkout of the example's repository, twice: with one comment in the end."""
    address, kept = server
    shutil.copytree(ROOT / "examples" / "ci" / "sizing", tmp_path / "sizing")
    (tmp_path / "memcalc").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m memcalc "$@"\n', encoding="utf-8")
    (tmp_path / "memcalc").chmod(0o755)
    for _ in range(2):
        done = subprocess.run(
            [str(ROOT / "ci" / "check.sh")], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "NO_PROXY": "*",
                 "FILES": "sizing/memcalc.toml", "COMMENT": "true", "CI_MERGE_REQUEST_IID": "", **github(address)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    (comment,) = kept.comments
    assert comment["body"].startswith(MARKER)
    assert "sizing/memcalc.toml" in comment["body"]
