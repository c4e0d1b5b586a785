"""The program `exporters`, also as `python -m exporters`."""

from __future__ import annotations

from foundation import interrupt


def main() -> int:
    """Runs the command in sys.argv. Returns its exit code."""
    interrupt.install()  # first: the imports take most of the startup time, and Ctrl-C must work meanwhile
    from exporters.cli import main as command

    return command()


if __name__ == "__main__":
    raise SystemExit(main())
