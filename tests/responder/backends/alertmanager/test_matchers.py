"""A matcher selects here exactly the alerts that the same text selects in Alertmanager's routes and silences."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from responder.backends.alertmanager.matchers import Matcher, Matchers, all_match, parse_matchers
from tests.responder.examples import LABELS

LIST: TypeAdapter[tuple[Matcher, ...]] = TypeAdapter(Matchers)


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ('alertname="BackendDown"', LABELS, True),
        ("alertname=BackendDown", LABELS, True),
        ('  alertname  =  "BackendDown"  ', LABELS, True),
        ('alertname="Backend"', LABELS, False),
        ('alertname!="BackendDown"', LABELS, False),
        ('alertname!="Other"', LABELS, True),
        # A regular expression matches the whole value.
        ('alertname=~"Backend"', LABELS, False),
        ('alertname=~"Backend.*"', LABELS, True),
        ('environment=~"prod|staging"', {"environment": "production"}, False),
        ('environment=~"production|staging"', {"environment": "staging"}, True),
        ('environment!~"prod.*"', {"environment": "production"}, False),
        ('environment!~"prod"', {"environment": "production"}, True),
        # A missing label has the empty value.
        ('team=""', LABELS, True),
        ('team!=""', LABELS, False),
        ('team=~".*"', LABELS, True),
        ('team=~".+"', LABELS, False),
        ('team!~".+"', LABELS, True),
        ("team=", LABELS, True),
        # Escapes, UTF-8 names, and values that look like operators.
        (r'path="a\"b\\c\nd"', {"path": 'a"b\\c\nd'}, True),
        ('"größe in m"="1"', {"größe in m": "1"}, True),
        ('a="=~x"', {"a": "=~x"}, True),
        ('a="{x, y}"', {"a": "{x, y}"}, True),
        (r'a=~"\\d+"', {"a": "12"}, True),
        (r'a=~"web-\d+"', {"a": "web-12"}, True),
        (r'a=~"a\.b"', {"a": "acb"}, False),
        ('{a="b"}', {"a": "b"}, True),
        ('{a="b", c="d",}', {"a": "b"}, False),
        ('{a="b", c="d",}', {"a": "b", "c": "d"}, True),
        (r"path=C:\temp\new", {"path": "C:\\temp\new"}, True),
        ("a=b}", {"a": "b"}, True),
        ("a=b\xa0,c=d", {"a": "b\xa0", "c": "d"}, True),
        ('"my.label"="x"', {"my.label": "x"}, True),
        ('a=~"b)|(?:c"', {"a": "b"}, True),
        ('a=~"(?i)down"', {"a": "DOWN"}, True),
        ('a=~"a.b"', {"a": "a\nb"}, False),
        ('a="ä"', {"a": "ä"}, True),
    ],
)
def test_matches_as_alertmanager_does(text: str, labels: dict[str, str], matches: bool) -> None:
    assert all_match(parse_matchers(text), labels) is matches


@pytest.mark.parametrize(
    "text",
    ["alertname", '="x"', 'a="x', 'a=x"', 'a!"x"', 'a~"x"', 'a b="c"', 'a="b"c', 'a="b" c="d"', "a=b,,", "\ud800=x"],
)
def test_an_invalid_matcher_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'is not a matcher: .*; write it as alertname="BackendDown"'):
        parse_matchers(text)


@pytest.mark.parametrize("item", [None, 5, True, ["a=b"], {"a": "b"}])
def test_a_matcher_must_be_text(item: object) -> None:
    with pytest.raises(ValidationError, match="a matcher is text such as"):
        LIST.validate_python([item])


@pytest.mark.parametrize("text", ["", " ", "{}"])
def test_a_list_refuses_an_item_that_selects_every_alert(text: str) -> None:
    with pytest.raises(ValidationError, match="contains no matcher"):
        LIST.validate_python(["a=b", text])


def test_an_item_may_contain_several_matchers() -> None:
    matchers = LIST.validate_python(['{a="b", c!=d}', "e=~f"])
    assert list(map(str, matchers)) == ['a="b"', 'c!="d"', 'e=~"f"']
    assert LIST.validate_json(LIST.dump_json(matchers)) == matchers


@pytest.mark.parametrize("expression", ["(", "[a", "*", r"a\\1", "(?=x)", "a{9999}", r"\C"])
def test_an_invalid_re2_expression_is_refused(expression: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="is not a valid RE2 regular expression"):
        parse_matchers(f'a=~"{expression}"')
    assert capfd.readouterr().err == "", "the library writes the exception's text to stderr"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('a="b"', ""),
        ('"my.label"="x"', ""),
        (r'a=~"web-\d+"', r'the UTF-8 mode of newer Alertmanagers cannot read it; write it as a=~"web-\\d+"'),
        (r'a="\x41"', r'the UTF-8 mode of newer Alertmanagers would read it as a="A"; write it as a="\\x41"'),
        ("a=b c", 'the UTF-8 mode of newer Alertmanagers cannot read it; write it as a="b c"'),
        ("a='b'", """write it as a="b", or as a="'b'" if you mean them"""),
        ("a=~`b|c`", """write it as a=~"b|c", or as a=~"`b|c`" if you mean them"""),
        ("a=\"'b'\"", ""),
        ('a-b="c"', "only Prometheus 3 has labels named a-b; for one of those, write the name in quotes"),
        ('"a-b"="c"', ""),
        ('{ "größe"="c" }', ""),
    ],
)
def test_a_suspicious_or_disputed_text_has_a_note(text: str, note: str) -> None:
    (matcher,) = parse_matchers(text)
    assert matcher.note.endswith(note)
    assert bool(matcher.note) == bool(note)
    if suggested := re.search("write it as (.*?)(, or as .*)?$", matcher.note):
        assert parse_matchers(suggested[1])[0].note == ""


def test_no_expression_backtracks() -> None:
    (matcher,) = parse_matchers('a=~"(x+x+)+y"')
    began = time.thread_time()  # of CPU time, so independent of the machine's load
    assert not matcher.matches({"a": "x" * 1000})
    assert time.thread_time() - began < 0.5


def test_all_must_match() -> None:
    both = parse_matchers('alertname="BackendDown",environment="production"')
    assert all_match(both, LABELS)
    assert not all_match(both, {**LABELS, "environment": "staging"})


@given(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True), st.sampled_from(["=", "!="]), st.text())
def test_a_matcher_round_trips_as_text(name: str, op: str, value: str) -> None:
    matcher = Matcher(name=name, op=op, value=value)
    assert parse_matchers(str(matcher)) == (matcher,)


@pytest.mark.parametrize("name", ["größe in m", "a=b", 'a"b', "a,b", "a\\b", "my.label", "größe", "9", "", "a\nb"])
def test_a_name_is_quoted_if_necessary(name: str) -> None:
    matcher = Matcher(name=name, op="=", value="x")
    assert parse_matchers(str(matcher)) == (matcher,)


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=3)), st.text(max_size=3))
def test_a_negation_is_the_opposite(labels: dict[str, str], value: str) -> None:
    assert Matcher("a", "=", value).matches(labels) is not Matcher("a", "!=", value).matches(labels)
