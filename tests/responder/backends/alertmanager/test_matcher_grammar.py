"""Texts of matchers are read as Alertmanager reads them: by its amtool, and by recorded results of newer versions."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from responder.backends.alertmanager import matcher_grammar
from responder.backends.alertmanager.matchers import Matcher, parse_matchers
from tests import parts

NAMES = ["a", "alertname", "x:y", "_9", "my.label", "größe", '"my label"', "9a", ""]
OPERATORS = ["=", "!=", "=~", "!~", "~", "=="]
PIECES = [
    *"ab10-/. \t\n\v\f\r'`{},=!~()|*+?^$[]\"\\",
    *["\x85", "\xa0", "\u2028", "\u3000", "\u200b", "\ufeff", "ä", "🙂"],
    *[r"\n", r"\"", r"\\", r"\d", r"\.", r"\C", r"\Q", r"\E", r"\t", r"\x41", r"\303\244", r"\u00e4", r"\U00110000"],
    *["foo", "web-", "5..", "(?i)", "a)(b", "[a-z]", "{2,3}", "{1001}", "(?P<n>x)", r"\pN", "[[:word:]]"],
    r"C:\temp\new",
]  # fmt: skip
RECORDED: list[tuple[str, list[list[str]] | None, list[list[str]] | None]] = json.loads(
    (Path(__file__).parent / "utf8_matchers.json").read_text()
)
"""Texts, and what the parsers of Alertmanager 0.34 made of them: in the UTF-8 mode, and in the default mode."""


def _matcher(rng: random.Random) -> str:
    value = "".join(rng.choices(PIECES, k=rng.randrange(6)))
    blank = rng.choices(["", " ", "\n", "\xa0", "\u2028"], [90, 8, 2, 1, 1], k=4)
    name, operator = rng.choices(NAMES, [9] * 4 + [1] * 5)[0], rng.choices(OPERATORS, [9] * 4 + [1] * 2)[0]
    shown = value if rng.random() < 0.4 else '"' + value.replace('"', r"\"") + '"'
    return f"{blank[0]}{name}{blank[1]}{operator}{blank[2]}{shown}{blank[3]}"


def _text(rng: random.Random) -> str:
    """Mostly a list of matchers, in braces or not, sometimes damaged."""
    text = ",".join(_matcher(rng) for _ in range(rng.choices([1, 2, 3], [6, 2, 1])[0]))
    text = rng.choices(["%s", "{%s}", "%s,", "{%s, }", "{%s", "%s}", "%s,,"], [30, 8, 4, 4, 1, 1, 1])[0].replace(
        "%s", text
    )
    if rng.random() < 0.2:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(PIECES) + text[at + rng.randrange(2) :]
    return text


def _yaml(text: str) -> str:
    """The text as YAML, without any character that YAML would change."""
    return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in text) + '"'


def _configuration(texts: Iterable[str]) -> str:
    routes = ", ".join(f"{{matchers: [{_yaml(text)}]}}" for text in texts)
    return f"route: {{receiver: us, routes: [{routes}]}}\nreceivers: [{{name: us}}]\n"


def _shown(matchers: Iterable[Matcher]) -> str:
    """As amtool shows a route with these matchers."""
    order = sorted(matchers, key=lambda m: (m.name, m.value, OPERATORS.index(m.op)))
    return (f"{{{','.join(map(str, order))}}}" if order else "default-route") + "  receiver: us"


def _read(reader: Callable[[str], Iterable[Matcher]], text: str) -> list[Matcher] | None:
    try:
        return list(reader(text))
    except ValueError:
        return None


def _classic(text: str) -> Iterable[Matcher]:
    return [Matcher(*found) for found in matcher_grammar.classic(text)]


def _utf8(text: str) -> Iterable[Matcher]:
    return [Matcher(*found) for found in matcher_grammar.utf8(text)]


def _amtool(directory: Path, *argv: str) -> str:
    parts.need("amtool")
    ran = subprocess.run([parts.program("amtool") or "", *argv], cwd=directory, stdout=subprocess.PIPE)
    return ran.stdout.decode()  # not as text, which would translate carriage returns


def test_amtool_reads_five_thousand_matchers_the_same(tmp_path: Path) -> None:
    """The installed amtool knows the classic grammar only."""
    rng = random.Random(1)
    texts = list(dict.fromkeys(_text(rng) for _ in range(6000)))[:5000]
    for number, text in enumerate(texts):
        (tmp_path / str(number)).write_text(_configuration([text]))
    checked = _amtool(tmp_path, "check-config", *map(str, range(len(texts)))).split("Checking '")[1:]
    accepted = {
        text for text, answer in zip(texts, checked, strict=True) if answer.split("'", 1)[1].startswith("  SUCC")
    }
    read = {text: found for text in texts if (found := _read(_classic, text)) is not None}
    assert read.keys() ^ accepted == set(), "accepted by one only"
    assert len(read) > 1500, "most texts are nonsense"
    (tmp_path / "all.yml").write_text(_configuration(read))
    tree = _amtool(tmp_path, "config", "routes", "show", "--config.file", "all.yml").split("\n")
    routes = [line.split("── ", 1)[1] for line in tree if "── " in line]
    assert routes[1:] == [_shown(matchers) for matchers in read.values()]


def _plain(matchers: list[Matcher] | None) -> list[list[str]] | None:
    return None if matchers is None else [[m.name, m.op, m.value] for m in matchers]


def test_recorded_results_of_a_newer_alertmanager_are_the_same() -> None:
    assert len(RECORDED) > 300
    for text, in_utf8_mode, by_default in RECORDED:
        assert _plain(_read(_utf8, text)) == in_utf8_mode, text
        assert _plain(_read(parse_matchers, text)) == by_default, text
