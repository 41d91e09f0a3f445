"""`python -m memcalc`, and the installed `memcalc`."""

import sys


def start() -> None:
    """The command line; an interrupt while it is still being imported ends as quietly as one later."""
    try:
        from memcalc.cli import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    start()
