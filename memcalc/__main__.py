"""`python -m memcalc`."""

from memcalc.cli import main

if __name__ == "__main__":
    main()
