"""The program `exporters`, also as `python -m exporters`."""

from __future__ import annotations

from exporters import interrupt


def main() -> int:
    """Runs the command of sys.argv and returns its exit code."""
    interrupt.install()  # before the imports, which take most of the start
    from exporters.cli import main as command

    return command()


if __name__ == "__main__":
    raise SystemExit(main())
