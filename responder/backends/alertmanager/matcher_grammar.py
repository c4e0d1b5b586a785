"""The two grammars of Alertmanager's matchers. Pure; neither compiles the regular expressions.

The classic grammar (`pkg/labels`) has three escapes, of a quote, a backslash and a newline, and keeps every other
backslash. The UTF-8 grammar (`matcher/parse`, since Alertmanager 0.27) adds quoted names and Go's escapes.
"""

from __future__ import annotations

import re

Parts = tuple[str, str, str]
"""Name, operator and value of a matcher."""

_BLANK = "\t\n\f\r "  # Go's \s
_WIDE = "".join(map(chr, range(0x2000, 0x200B)))
_SPACE = f"\t\n\v\f\r \x85\xa0\u1680{_WIDE}\u2028\u2029\u202f\u205f\u3000"  # Go's unicode.IsSpace
_RESERVED = rf"""{_SPACE}{{}}!=~,\\"'`"""
PLAIN = rf"[^{_RESERVED}]+"
"""A name that needs no quotes in the UTF-8 grammar."""

_CLASSIC = re.compile(rf"[{_BLANK}]*([a-zA-Z_:][a-zA-Z0-9_:]*)[{_BLANK}]*(=~|=|!=|!~)")
_CLASSIC_VALUE = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>(?:[^"\\]|\\.)*\\?)', re.DOTALL)
_CLASSIC_ESCAPE = re.compile(r'\\([n"\\])|\\.', re.DOTALL)

_TOKEN = re.compile(
    rf'[{_SPACE}]*(?:(?P<mark>[{{}},])|(?P<operator>=~|=|!=|!~)|(?P<quoted>"(?:[^"\\\n]|\\[^\n])*")|(?P<text>{PLAIN})|\Z)'
)
_LIST = r"(?:tot(?:,tot)*,?)?"  # t: a name or a value, o: an operator
_SENTENCE = re.compile(rf"\{{{_LIST}\}}|{_LIST}")
_GO_ESCAPE = re.compile(
    rb'\\(?:([abfnrtv\\"])|x([0-9a-fA-F]{2})|([0-3][0-7]{2})|u([0-9a-fA-F]{4})|U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|)'
)
_GO_CHARACTERS = dict(zip(b'abfnrtv\\"', (b"\a", b"\b", b"\f", b"\n", b"\r", b"\t", b"\v", b"\\", b'"'), strict=True))


def classic(text: str) -> list[Parts]:
    """The matchers of a text in the classic grammar. Raises ValueError."""
    return [_classic_matcher(part) for part in _classic_parts(text.removeprefix("{").removesuffix("}"))]


def _classic_parts(text: str) -> list[str]:
    """The text between the commas outside of quotes. As in Alertmanager, a comma does not end an escape."""
    parts, quoted, escaped, start = [], False, False, 0
    for at, char in enumerate(text):
        if char != ",":
            quoted ^= char == '"' and not escaped
            escaped = char == "\\" and not escaped
        elif not quoted:
            parts.append(text[start:at])
            start = at + 1
    last = text[start:].strip(_SPACE)  # only the last one: the others keep a no-break space
    return [*parts, last] if last else parts


def _classic_matcher(text: str) -> Parts:
    if not (found := _CLASSIC.match(text)):
        raise ValueError("expected a label name, then one of = != =~ !~")
    if not (value := _CLASSIC_VALUE.fullmatch(text[found.end() :].strip(_BLANK))):
        raise ValueError('write a double quote inside a value as \\", and close the quotes')
    raw = value["plain"] if value["quoted"] is None else value["quoted"]
    return found[1], found[2], _CLASSIC_ESCAPE.sub(_classic_unescaped, raw)


def _classic_unescaped(found: re.Match[str]) -> str:
    return {None: found[0], "n": "\n"}.get(found[1], found[1])


def utf8(text: str) -> list[Parts]:
    """The matchers of a text in the UTF-8 grammar. Raises ValueError."""
    kinds, terms, at = "", [], 0
    while at < len(text):
        if not (found := _TOKEN.match(text, at)):
            raise ValueError(f"unexpected {text[at : at + 20]!r}")
        at, kind = found.end(), found.lastgroup
        if kind == "mark":
            kinds += found["mark"]
        elif kind:
            kinds += "o" if kind == "operator" else "t"
            terms.append(_go_unquoted(found["quoted"]) if kind == "quoted" else found[kind])
    if not _SENTENCE.fullmatch(kinds):
        raise ValueError('expected name="value", in a list separated by commas')
    return list(zip(terms[::3], terms[1::3], terms[2::3], strict=True))


def _go_unquoted(text: str) -> str:
    """The value of a Go string. Its escapes may form characters byte by byte. Raises ValueError."""
    return _GO_ESCAPE.sub(_go_unescaped, text[1:-1].encode()).decode()


def _go_unescaped(found: re.Match[bytes]) -> bytes:
    character, byte, octal, *points = found.groups()
    if character:
        return _GO_CHARACTERS[character[0]]
    if byte or octal:
        return bytes([int(byte, 16) if byte else int(octal, 8)])
    if point := next(filter(None, points), None):
        return chr(int(point, 16)).encode()
    raise ValueError("unknown escape")
