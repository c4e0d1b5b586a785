"""A matcher selects here exactly the alerts that the same text selects in Alertmanager's routes and silences."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.backends.alertmanager.matchers import Matcher, all_match, parse_matcher
from tests.responder.examples import LABELS


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
        ('a=~"(?i)down"', {"a": "DOWN"}, True),
        ('a=~"a.b"', {"a": "a\nb"}, False),
        ('a="ä"', {"a": "ä"}, True),
    ],
)
def test_matches_as_alertmanager_does(text: str, labels: dict[str, str], matches: bool) -> None:
    assert parse_matcher(text).matches(labels) is matches


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alertname",
        '="x"',
        'a="x',
        'a=x"',
        'a!"x"',
        'a~"x"',
        '{a="b"}',
        'a="b", c="d"',
        'a b="c"',
        'a="b"c',
        "a=b,c=d",
    ],
)
def test_an_invalid_matcher_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='is not a matcher; write it as alertname="BackendDown"'):
        parse_matcher(text)


@pytest.mark.parametrize("value", [None, 5, True, ["a=b"], {"a": "b"}])
def test_a_matcher_must_be_text(value: object) -> None:
    with pytest.raises(ValueError, match="a matcher is text such as"):
        parse_matcher(value)


@pytest.mark.parametrize("expression", ["(", "[a", "*", r"a\\1", "(?=x)", "a{9999}"])
def test_an_invalid_re2_expression_is_refused(expression: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="is not a valid RE2 regular expression"):
        parse_matcher(f'a=~"{expression}"')
    assert capfd.readouterr().err == "", "the library writes the exception's text to stderr"


def test_an_unknown_escape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown escape \\q"):
        parse_matcher(r'a="\q"')


def test_no_expression_backtracks() -> None:
    matcher = parse_matcher('a=~"(x+x+)+y"')
    began = time.thread_time()  # of CPU time, so independent of the machine's load
    assert not matcher.matches({"a": "x" * 1000})
    assert time.thread_time() - began < 0.5


def test_all_must_match() -> None:
    both = (parse_matcher('alertname="BackendDown"'), parse_matcher('environment="production"'))
    assert all_match(both, LABELS)
    assert not all_match(both, {**LABELS, "environment": "staging"})


@given(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True), st.sampled_from(["=", "!="]), st.text())
def test_a_matcher_round_trips_as_text(name: str, op: str, value: str) -> None:
    matcher = Matcher(name=name, op=op, value=value)
    assert parse_matcher(str(matcher)) == matcher


@pytest.mark.parametrize("name", ["größe in m", "a=b", 'a"b', "a,b", "a\\b"])
def test_a_name_is_quoted_if_necessary(name: str) -> None:
    matcher = Matcher(name=name, op="=", value="x")
    assert parse_matcher(str(matcher)) == matcher


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=3)), st.text(max_size=3))
def test_a_negation_is_the_opposite(labels: dict[str, str], value: str) -> None:
    assert Matcher("a", "=", value).matches(labels) is not Matcher("a", "!=", value).matches(labels)
