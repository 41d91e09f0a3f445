"""`python -m tests.golden [NAME…]`: write what the commands print now, all of them or the named ones."""

import sys

from tests.golden.outputs import KEPT, commands, printed


def rewrite(names: list[str]) -> None:
    KEPT.mkdir(exist_ok=True)
    kept = set()
    for command in commands():
        if not names or command.name in names:
            for file, text in printed(command).items():
                (KEPT / file).write_text(text, encoding="utf-8")
                kept.add(file)
    for stale in KEPT.iterdir() if not names else ():
        if stale.name not in kept:
            stale.unlink()


rewrite(sys.argv[1:])
