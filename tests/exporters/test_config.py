"""Every error in a configuration file is reported with its exact location."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporters.config import load
from exporters.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "examples" / "exporters.yml"
ENVIRONMENT = {"PGPASSWORD": "s3cret-pw", "SHOP_TOKEN": "s3cret-token", "DEPLOY_ENV": "production"}

HTTP = "id: a, service: s, environment: e, type: http_response, url: 'http://h/'"
CUSTOM = "id: a, service: s, environment: e, type: custom, command: ['true']"
DATABASE = "id: a, service: s, environment: e, type: database_connection"

MISTAKES = [
    ("checks: 5", "f.yml:1 checks: must be a list"),
    ("[]", "f.yml:1: must be a mapping, not []"),
    ("cheks: []", "f.yml:1 cheks: unknown key (did you mean checks?)"),
    ("listen: nowhere", "f.yml:1 listen: must be written host:port, or [address]:port for IPv6"),
    ("listen: 'h:99999'", "f.yml:1 listen: the port must be between 1 and 65535"),
    ("listen: 'h:1'\nlisten: 'h:2'", "f.yml:2 listen: duplicate key, first in line 1 (remove one)"),
    ("resources: [cpu, gpu]", "f.yml:1 resources[1]: must be one of cpu, memory, "),
    (
        "checks:\n- {service: s}",
        "f.yml:2 checks[0].type: is missing (add type: one of http_response, database_connection",
    ),
    (
        "checks:\n- {id: c, service: s, environment: e, type: system_resource}",
        "f.yml:2 checks[0].type: system_resource is not a check: resources are always published on /metrics",
    ),
    (
        "checks:\n- {type: ping}",
        'f.yml:2 checks[0].type: unknown value "ping": must be one of http_response, database_connection, tcp, custom',
    ),
    ("checks:\n- {type: tcp, id: a}", "f.yml:2 checks[0].address: is missing (add address"),
    (f"checks:\n- {{{HTTP}}}\n- {{{HTTP}}}", "f.yml:3 checks[1].id: 'a' is already the ID of checks[0]"),
    (
        f"checks:\n- {{{HTTP}, timeout: 10}}",
        "f.yml:2 checks[0].timeout: a duration needs a unit",
    ),
    (f"checks:\n- {{{HTTP}, timeout: 0s}}", "f.yml:2 checks[0].timeout: must be greater than 0"),
    (f"checks:\n- {{{HTTP}, timeout: 20s}}", "f.yml:2 checks[0].timeout: timeout 20s is longer than interval 15s"),
    (f"checks:\n- {{{HTTP}, expect: 1}}", "f.yml:2 checks[0].expect: unknown key"),
    (f"checks:\n- {{{HTTP}, header: {{}}}}", "f.yml:2 checks[0].header: unknown key (did you mean headers?)"),
    (f"checks:\n- {{{HTTP}, endpoint_url: x}}", "f.yml:2 checks[0].endpoint_url: unknown key (did you mean url?)"),
    (f"checks:\n- {{{HTTP}, tls: {{verify: no}}}}", "f.yml:2 checks[0].tls.verify: unknown key"),
    (f"checks:\n- {{{HTTP}, tls: {{ca_file: gone}}}}", "f.yml:2 checks[0].tls.ca_file: ca_file "),
    (f"checks:\n- {{{HTTP}, body_matches: '('}}", "f.yml:2 checks[0].body_matches: is not a valid RE2"),
    (f"checks:\n- {{{HTTP}, body_matches: '(?=x)'}}", "f.yml:2 checks[0].body_matches: is not a valid RE2"),
    (f"checks:\n- {{{HTTP}, expected_status: 20}}", "f.yml:2 checks[0].expected_status: 20 is not a status"),
    (f"checks:\n- {{{HTTP}, expected_status: []}}", "f.yml:2 checks[0].expected_status: names no status"),
    (f"checks:\n- {{{HTTP}, json_equals: {{'a b': 1}}}}", "f.yml:2 checks[0].json_equals.a b: is not a path"),
    (f"checks:\n- {{{HTTP}, follow_redirects: 'yes'}}", "f.yml:2 checks[0].follow_redirects: must be true or false"),
    (f"checks:\n- {{{HTTP}, method: get}}", "f.yml:2 checks[0].method: 'get' does not match ^[A-Z]+$"),
    (
        f"checks:\n- {{{HTTP}, certificate_valid_for: 1d}}",
        "f.yml:2 checks[0].certificate_valid_for: certificate_valid_for needs an https://",
    ),
    (f"checks:\n- {{{HTTP}, labels: {{service: x}}}}", "f.yml:2 checks[0]: label 'service' is set by the exporter"),
    (
        f"checks:\n- {{{HTTP}, labels: {{__x: x}}}}",
        "f.yml:2 checks[0]: label '__x' is not a valid",
    ),
    (f"checks:\n- {{{HTTP}, bearer_token: '${{NOPE}}'}}", "f.yml:2 checks[0].bearer_token: ${NOPE} is not set"),
    (
        f"checks:\n- {{{HTTP}, bearer_token_file: gone}}",
        "f.yml:2 checks[0].bearer_token_file: {folder}/gone cannot be read: No such",
    ),
    (
        f"checks:\n- {{{HTTP}, basic_auth: {{username: u, password_file: gone}}}}",
        "f.yml:2 checks[0].basic_auth.password_file: {folder}/gone cannot be read: No such file",
    ),
    (
        f"checks:\n- {{{HTTP}, bearer_token: a, bearer_token_file: b}}",
        "f.yml:2 checks[0].bearer_token_file: needs exactly one of",
    ),
    (f"checks:\n- {{{HTTP}, bearer_token: t, headers: {{authorization: x}}}}", "f.yml:2 checks[0]: give only one of"),
    (
        f"checks:\n- {{{HTTP}, headers: {{'a b': x}}}}",
        "f.yml:2 checks[0]: header 'a b' is not a valid",
    ),
    (
        f'checks:\n- {{{HTTP}, bearer_token: "a\\nb"}}',
        "f.yml:2 checks[0]: header Authorization has a line break in its value",
    ),
    (
        f"checks:\n- {{{HTTP}, tls: {{server_name: .shop.example}}}}",
        "f.yml:2 checks[0].tls.server_name: '.shop.example' is not a host name",
    ),
    ("checks:\n- {type: tcp, address: h}", "f.yml:2 checks[0].address: must be written host:port"),
    (
        f"checks:\n- {{{DATABASE}, dsn: 'mysql://h/d'}}",
        "f.yml:2 checks[0].dsn: must begin with postgresql:// or redis://",
    ),
    (
        f"checks:\n- {{{HTTP}, bearer_token_file: reference}}",
        "f.yml:2 checks[0].bearer_token_file: {folder}/reference holds an unexpanded reference (replace it",
    ),
    (
        f"checks:\n- {{{HTTP}, bearer_token: $SHOP_TOKEN}}",
        "f.yml:2 checks[0].bearer_token: unexpanded reference (write ${NAME}, which is replaced by an environment",
    ),
    (
        f"checks:\n- {{{DATABASE}, dsn: 'postgresql://u:$PGPASSWORD@h/d'}}",
        "f.yml:2 checks[0].dsn: unexpanded reference",
    ),
    (
        f"checks:\n- {{{DATABASE}, dsn_file: gone}}",
        "f.yml:2 checks[0].dsn_file: {folder}/gone cannot be read: No such file",
    ),
    (f"checks:\n- {{{DATABASE}, dsn: 'redis://h', fresh_every: 0}}", "f.yml:2 checks[0].fresh_every: must be greater"),
    (
        "checks:\n- {id: a, service: s, environment: e, type: custom, command: 'curl x | jq'}",
        "f.yml:2 checks[0].command: must be a list with one item per argument: there is no shell",
    ),
    (
        "checks:\n- {id: a, service: s, environment: e, type: custom, command: [no-such-thing]}",
        "f.yml:2 checks[0].command: command 'no-such-thing' is not an executable file",
    ),
    (f"checks:\n- {{{CUSTOM}, value: json}}", "f.yml:2 checks[0]: json_path and value: json must be set together"),
    (f"checks:\n- {{{CUSTOM}, at_most: 5}}", "f.yml:2 checks[0]: at_least and at_most need value"),
    (
        f"checks:\n- {{{CUSTOM}, value: number, at_least: 5, at_most: 1}}",
        "f.yml:2 checks[0].at_least: at_least is above at_most",
    ),
    (
        f"checks:\n- {{{CUSTOM}, value: prometheus, sample: 'x{{'}}",
        "f.yml:2 checks[0].sample: sample 'x{' is not a series",
    ),
    (f"checks:\n- {{{HTTP}, interval: 3m}}", "f.yml:2 checks[0].interval: interval 3m is longer than 2m"),
    (
        f"checks:\n- {{{HTTP}, labels: {{rollback: 'true'}}}}",
        "f.yml:2 checks[0]: label 'rollback' belongs to",
    ),
    ("checks:\n- {id: 'a b', type: tcp}", "f.yml:2 checks[0].id: 'a b' does not match"),
    ("a: [", "f.yml:1: invalid YAML"),
    ("a: !!python/object:os.system x", "f.yml:1: invalid YAML"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=[text.splitlines()[-1][-60:] for text, _ in MISTAKES])
def test_an_error_has_its_location(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "f.yml").write_text(text)
    (tmp_path / "reference").write_text("$SHOP_TOKEN\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "f.yml", ENVIRONMENT)
    problems = [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.findings]
    assert any(line.startswith(expected.replace("{folder}", str(tmp_path))) for line in problems), problems
    assert "s3cret" not in str(caught.value)


def test_all_errors_are_reported_in_the_order_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "f.yml").write_text(f"checks:\n- {{{HTTP}, timeout: x}}\n- {{{CUSTOM}, value: x}}\nmore: 1\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "f.yml", {})
    problems = [(problem.line, problem.path) for problem in caught.value.findings]
    assert problems == [(2, "checks[0].timeout"), (3, "checks[1].id"), (3, "checks[1].value"), (4, "more")]


def test_a_misplaced_secret_is_not_printed(tmp_path: Path) -> None:
    (tmp_path / "f.yml").write_text(f"checks:\n- {{{HTTP}, expected_status: '${{SHOP_TOKEN}}'}}")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "f.yml", ENVIRONMENT)
    assert "s3cret" not in str(caught.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yml: cannot be read: No such file"):
        load(tmp_path / "gone.yml")


@pytest.mark.parametrize("text", ["", "# checks: []\n"])
def test_an_empty_file_is_an_error(text: str, tmp_path: Path) -> None:
    """A template that rendered nothing must not end all checks without a word."""
    (tmp_path / "f.yml").write_text(text)
    with pytest.raises(ConfigError, match="is empty"):
        load(tmp_path / "f.yml")


def test_a_file_without_checks_publishes_resources_only(tmp_path: Path) -> None:
    (tmp_path / "f.yml").write_text("resources: [cpu]\n")
    assert load(tmp_path / "f.yml").config.checks == ()


def test_secrets_come_from_the_environment_and_from_files_and_are_masked(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" from-a-file \n")
    (tmp_path / "f.yml").write_text(
        "checks:\n"
        "- {id: a, service: s, environment: '${DEPLOY_ENV}', type: http_response, url: 'http://h/', "
        "bearer_token_file: token, headers: {X-Key: '${SHOP_TOKEN}', X-Literal: '$${SHOP_TOKEN}'}}\n"
        "- {id: b, service: s, environment: e, type: database_connection, dsn: 'postgresql://u:${PGPASSWORD}@h/d'}\n"
    )
    loaded = load(tmp_path / "f.yml", ENVIRONMENT)
    first, second = loaded.config.checks
    assert first._headers == {
        "X-Key": "s3cret-token",
        "X-Literal": "${SHOP_TOKEN}",
        "Authorization": "Bearer from-a-file",
    }
    assert second.dsn.get_secret_value() == "postgresql://u:s3cret-pw@h/d"
    assert loaded.redact("s3cret-token from-a-file s3cret-pw production") == "*** *** *** production"
    assert "s3cret" not in repr(loaded.config)


def test_the_minimal_documented_check_loads(tmp_path: Path) -> None:
    (tmp_path / "f.yml").write_text(
        "checks:\n- {id: shop_health, service: shop, environment: demo, type: http_response, "
        'url: "http://127.0.0.1:8080/health", interval: 1s, timeout: 1s}'
    )
    (check,) = load(tmp_path / "f.yml").config.checks
    assert (check.interval, check.time_limit) == (1.0, 1.0)


def test_the_example_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(EXAMPLE, ENVIRONMENT | {"REDIS_PASSWORD": "x", "SHOP_DB_PASSWORD": "y"}).config
    assert {check.type for check in config.checks} == {"http_response", "database_connection", "tcp", "custom"}
