"""`python -m hintpose_lite` is the `hintpose` command."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
