"""`python -m memcalc`, and the installed `memcalc`."""

import gc
import sys

COLLECTED = 1_000_000  # objects, before Python looks for cycles among what a command imports, which takes a tenth of its time


def start() -> None:
    """The command line; an interrupt while it is still being imported ends as quietly as one later."""
    gc.set_threshold(COLLECTED)
    try:
        from memcalc.cli import main

        main()
    except BaseException as error:
        # pydantic-core before 2.27 panics when it is interrupted while it makes a schema: no KeyboardInterrupt then
        if not isinstance(error, KeyboardInterrupt) and "KeyboardInterrupt" not in str(error):
            raise
        sys.exit(130)


if __name__ == "__main__":
    start()
