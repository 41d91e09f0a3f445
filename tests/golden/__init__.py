"""What every command prints, kept as files. `python -m tests.golden` writes them anew."""
