"""No file leads to a traceback: both programs report it, with exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exporters.cli import main as exporters
from responder.cli.main import main as responder

BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 10))


@pytest.mark.parametrize("main", [responder, exporters])
@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", None, "is empty"),
        (b"# nothing\n", None, "is empty"),
        (b"\xef\xbb\xbf", None, "is empty"),
        (b"a: 1\nb: caf\xe9\n", 2, "the byte 0xe9 is not UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00", 1, "is not text"),
        (b"\xff\xfea\x00:\x00", 1, "is not UTF-8"),
        (b"a: \x00\n", 1, "U+0000 is not text"),
        (b"[" * 100_000, 1, "nested more than 100 levels deep"),
        (b"- " * 100_000, 1, "nested more than 100 levels deep"),
        (b"".join(b" " * n + b"a:\n" for n in range(200)), 101, "nested more than 100 levels deep"),
        (BOMB.encode(), None, "the aliases stand for"),
        (MERGED.encode(), None, "the aliases stand for"),
        (b"a: &a [*a]\n", 1, "the anchor contains itself"),
        (b"a: &a {b: *a}\n", 1, "the anchor contains itself"),
        (b"a: 2026-13-45\n", None, "month must be in"),
        (b"? [x]\n: y\n", 1, "a mapping in place of a key"),
        (b"%YAML 9\n", 1, "invalid YAML"),
        (b"just text\n", 1, "mapping"),
        (b"5\n", 1, "mapping"),
        (b"\x00" * (64 * 1024**2 + 1), None, "more than 64 MiB"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_text_that_is_no_configuration_is_reported(
    main: Callable[[list[str]], int],
    content: bytes,
    line: int | None,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "config.yml"
    file.write_bytes(content)
    for output in ("text", "json", "sarif"):
        assert main(["check", "--config", str(file), "--output", output]) == 2
    assert main(["check", "--config", str(file), "--output", "json"]) == 2
    lines = capsys.readouterr().out
    (finding,) = json.loads(lines[lines.rindex("\n[\n") :])
    assert (finding["file"], message in finding["message"]) == (str(file), True), finding
    assert line is None or finding["line"] == line, finding
    assert finding["hint"]


@pytest.mark.parametrize("main", [responder, exporters])
@pytest.mark.parametrize(("name", "message"), [(".", "Is a directory"), ("none.yml", "No such file")])
def test_a_path_that_is_no_file_is_reported(
    main: Callable[[list[str]], int],
    name: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "--config", str(tmp_path / name), "--output", "json"]) == 2
    (finding,) = json.loads(capsys.readouterr().out)
    assert message in finding["message"]
    assert "--config" in finding["hint"]
