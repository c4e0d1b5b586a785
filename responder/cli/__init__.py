"""The command line: what an engineer types at 3 a.m., with an example in every `--help` and no stack trace."""

from responder.cli.main import main

__all__ = ["main"]
