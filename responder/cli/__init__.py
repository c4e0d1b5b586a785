"""The command line: one module per noun, with an example in every `--help`. It may import every room."""

from responder.cli.main import main

__all__ = ["main"]
