"""`python -m memcalc`, and the installed `memcalc`."""

import gc
import sys

COLLECTED = 200_000  # objects after which Python looks for circles among them; its 700 are a tenth of a command's time


def start() -> None:
    """The command line; an interrupt while it is still being imported ends as quietly as one later."""
    gc.set_threshold(COLLECTED)
    try:
        from memcalc.cli import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    start()
