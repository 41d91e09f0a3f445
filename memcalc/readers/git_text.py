"""A file as it was at a commit, by git itself; asked for nothing else."""

import os
import re
import subprocess

from memcalc.errors import InputError
from memcalc.readers.files import Opened, decoded

REF = re.compile(r"[A-Za-z0-9_@][\w./@{}^~+-]{0,199}", re.ASCII)  # begins like no option, names no path
SECONDS = 20


def text_at(ref: str, path: str, limit: int) -> bytes | None:
    """At most limit + 1 bytes of a file at a branch, tag or commit; None where it was not there.

    Raises InputError where there is no git, no repository or no such commit.
    """
    if not REF.fullmatch(ref) or ".." in ref:
        raise InputError(f"{ref!r:.60} is no file, and cannot name a commit of git", place="--baseline")
    folder, name = os.path.split(os.path.abspath(path))
    if _git(folder, ["rev-parse", "--git-dir"], 4096) is None:
        raise InputError(f"{ref!r:.60} is no file, and {folder} is in no git repository", place="--baseline")
    if _git(folder, ["rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"], 4096) is None:
        raise InputError(f"{ref!r:.60} is no file, and no branch, tag or commit of the repository", place="--baseline")
    return _git(folder, ["cat-file", "blob", f"{ref}:./{name}"], limit)


def opened_at(ref: str, limit: int) -> Opened:
    """Files as they were at a commit, each read once. Raises as `text_at` does."""
    texts: dict[str, str | None] = {}

    def opened(path: str) -> str | None:
        if path not in texts:
            data = text_at(ref, path, limit)
            texts[path] = None if data is None else decoded(data, f"{path} at {ref}", limit)
        return texts[path]

    return opened


def _git(folder: str, words: list[str], limit: int) -> bytes | None:
    """The first bytes that git prints; None where it fails."""
    command = ["git", "-C", folder, "-c", "core.fsmonitor=false", *words]
    try:
        found = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"},
        )  # fmt: skip
    except FileNotFoundError:
        raise InputError("needs git to read files of another commit, and there is none", place="--baseline") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"git did not answer ({type(error).__name__})", place="--baseline") from None
    return found.stdout[: limit + 1] if found.returncode == 0 else None
