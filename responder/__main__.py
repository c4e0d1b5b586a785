"""The program `responder`, also as `python -m responder`."""

from __future__ import annotations

from foundation import interrupt


def main() -> int:
    """Runs the command of sys.argv and returns its exit code."""
    interrupt.install()  # before the imports, which take most of the start
    from responder.cli import main as command

    return command()


if __name__ == "__main__":
    raise SystemExit(main())
