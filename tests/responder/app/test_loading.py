"""Every mistake in responder.yml is reported at once, with its line and path, before anything starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from responder.app.loading import load, parse
from responder.errors import ConfigError

HEAD = """\
state: sqlite:///var/lib/responder/state.db
prometheus: {url: "http://localhost:9090"}
alertmanager: {urls: ["http://localhost:9093"]}
"""
SERVICES = """\
services:
  - name: backend
    environment: production
    rollback: {strategy: immediate, release: {root: /srv/shop}}
    health_checks:
      - {promql: up, at_least: 1}
"""
POLICIES = """\
policies:
  - name: down
    match: ['alertname="BackendDown"']
    roll_back: [backend]
"""
ALL = HEAD + SERVICES + POLICIES
DATABASE = """\
  - name: database
    environment: production
    rollback: {strategy: immediate, release: {root: /srv/db}}
    health_checks:
      - {promql: up, at_least: 1}
"""
TOKEN = "0123456789abcdef"


def put(old: str, new: str, within: str = ALL) -> str:
    assert old in within
    return within.replace(old, new, 1)


def mistakes_in(text: str, **environment: str) -> list[str]:
    """The mistakes without their hints."""
    with pytest.raises(ConfigError) as raised:
        parse(text, "r.yml", environment)
    return [str(finding._replace(hint="")) for finding in raised.value.findings]


def test_the_smallest_configuration_is_enough() -> None:
    config = parse(HEAD, "r.yml", {})
    assert (config.web.listen, config.limits.concurrent, config.services, config.policies) == (
        "127.0.0.1:9095",
        1,
        (),
        (),
    )


def test_written_settings_are_used() -> None:
    text = ALL + "    mode: auto\n    cooldown: 1h30m\n    verify: {for: 2m, within: 10m}\nstop_file: /etc/stop\n"
    policy_set = parse(text, "r.yml", {}).policy_set
    policy = policy_set.policy("down")
    assert (policy.mode, policy.cooldown, policy.verify.bake, policy.verify.within) == ("auto", 5400.0, 120.0, 600.0)
    assert policy_set.service("backend", "production")[0] == policy_set.services[0]
    assert policy_set.stop_file == Path("/etc/stop")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        # Keys.
        (HEAD + "polices: []\n", "r.yml:4 polices: unknown key"),
        (HEAD + "zzzzzz: 1\n", "r.yml:4 zzzzzz: unknown key"),
        (
            put("at_least", "at_lest"),
            "r.yml:9 services[0].health_checks[0].at_lest: unknown key",
        ),
        (ALL + "    moed: auto\n", "r.yml:14 policies[0].moed: unknown key"),
        (HEAD + "state: sqlite:///x\n", "r.yml:4 state: duplicate key, first in line 1"),
        (
            put("environment: production", "environment: production\n    environment: staging"),
            "r.yml:7 services[0].environment: duplicate key, first in line 6",
        ),
        (put('prometheus: {url: "http://localhost:9090"}\n', "", HEAD), "r.yml:1 prometheus: is missing"),
        (put("    environment: production\n", ""), "r.yml:5 services[0].environment: is missing"),
        # Types.
        (
            HEAD + "limits: {concurrent: many}\n",
            "r.yml:4 limits.concurrent: must be a whole number, not 'many'",
        ),
        (
            HEAD + "limits: {concurrent: 0}\n",
            "r.yml:4 limits.concurrent: must be greater than or equal to 1, not 0",
        ),
        (
            put('["http://localhost:9093"]', "[]", HEAD),
            "r.yml:3 alertmanager.urls: must have at least one item",
        ),
        (
            put("roll_back: [backend]", "roll_back: [backend]\n    mode: automatic"),
            "r.yml:14 policies[0].mode: must be 'observe', 'approve' or 'auto', not 'automatic'",
        ),
        (
            put('"http://localhost:9090"', '"localhost:9090"', HEAD),
            "r.yml:2 prometheus.url: must be a URL such as http://localhost:9090, not 'localhost:9090'",
        ),
        (
            put('["http://localhost:9093"]', '["http//localhost:9093"]', HEAD),
            "r.yml:3 alertmanager.urls[0]: must be a URL such as http://localhost:9090, not 'http//localhost:9093'",
        ),
        (
            put("at_least: 1", "at_least: one"),
            "r.yml:9 services[0].health_checks[0].at_least: must be a number, not 'one'",
        ),
        (ALL + "    force: maybe\n", "r.yml:14 policies[0].force: must be true or false, not 'maybe'"),
        (
            put("roll_back: [backend]", "roll_back: backend"),
            "r.yml:13 policies[0].roll_back: must be a list, not 'backend'",
        ),
        # Durations.
        (
            ALL + "    cooldown: 30\n",
            "r.yml:14 policies[0].cooldown: a duration needs a unit, such as 30s or 5m, not 30",
        ),
        (
            ALL + "    cooldown: false\n",
            "r.yml:14 policies[0].cooldown: a duration needs a unit, such as 30s or 5m, not False",
        ),
        (
            ALL + "    cooldown: 5min\n",
            "r.yml:14 policies[0].cooldown: '5min' is not a duration such as 30s, 5m or 1h30m",
        ),
        (HEAD + "limits: {lease: 1s}\n", "r.yml:4 limits.lease: must be greater than or equal to 2s, not '1s'"),
        (
            ALL + "    verify:\n      for: 10m\n      within: 1m\n",
            "r.yml:14 policies[0].verify: `for` is longer than `within`: no rollback could be verified",
        ),
        # Matchers and expressions.
        (
            put('alertname="BackendDown"', "alertname"),
            "r.yml:12 policies[0].match[0]: 'alertname' is not a matcher: expected a label name, then one of "
            "= != =~ !~",
        ),
        (
            put('alertname="BackendDown"', 'alertname=~"("'),
            "r.yml:12 policies[0].match[0]: 'alertname=~\"(\"' is not a matcher: '(' is not a valid RE2 regular "
            "expression: missing ): ^(?:()$",
        ),
        (
            put("{promql: up, at_least: 1}", '{http: "http://x", body: "("}'),
            "r.yml:9 services[0].health_checks[0].body: '(' is not a valid RE2 regular expression",
        ),
        (
            put(", at_least: 1", ""),
            "r.yml:9 services[0].health_checks[0]: needs at least one of at_least, at_most, above, below",
        ),
        # Names of services.
        (
            put("roll_back: [backend]", "roll_back: [backnd]"),
            "r.yml:13 policies[0].roll_back[0]: no service backnd is configured",
        ),
        (
            put("    rollback", "    depends_on: [database]\n    rollback"),
            "r.yml:7 services[0].depends_on[0]: no service database is configured in production",
        ),
        (
            put("    rollback", "    depends_on: [backend]\n    rollback"),
            "r.yml:7 services[0].depends_on: cycle: backend → backend",
        ),
        (
            HEAD + SERVICES + SERVICES.removeprefix("services:\n") + POLICIES,
            "r.yml:10 services[1].name: backend in production is already services[0]",
        ),
        (
            ALL + POLICIES.removeprefix("policies:\n"),
            "r.yml:14 policies[1].name: duplicate name down, as policies[0]",
        ),
        (
            put("roll_back: [backend]", "roll_back: []"),
            "r.yml:13 policies[0].roll_back: is empty",
        ),
        # Strategies and resources.
        (
            put("immediate", "imediate"),
            'r.yml:7 services[0].rollback.strategy: unknown value "imediate": must be one of immediate, rolling, '
            "blue_green, frontend, database_migration",
        ),
        (
            put("strategy: immediate, ", "strategy: immediate, batch_size: 3, "),
            'r.yml:7 services[0].rollback.batch_size: not an option of strategy "immediate"',
        ),
        (put("strategy: immediate, ", ""), "r.yml:7 services[0].rollback.strategy: is missing"),
        (put("/srv/shop", "srv"), "r.yml:7 services[0].rollback.release.root: srv must be an absolute path"),
        # Listener and tokens.
        (
            HEAD + 'web: {listen: "0.0.0.0:9095"}\n',
            "r.yml:4 web.tokens: 0.0.0.0:9095 can be reached from other hosts: tokens are required",
        ),
        (
            HEAD + 'web:\n  listen: "[::]:9095"\n',
            "r.yml:4 web.tokens: [::]:9095 can be reached from other hosts: tokens are required",
        ),
        (
            HEAD + 'web: {listen: "9095"}\n',
            "r.yml:4 web.listen: '9095' is not an address and a port such as 127.0.0.1:9095",
        ),
        (
            HEAD + "web: {tokens: [{name: a, scopes: [read], token: short}]}\n",
            "r.yml:4 web.tokens[0]: a token needs at least 16 characters",
        ),
        (
            HEAD + "web: {tokens: [{name: a, scopes: [read], file: /no/such/file}]}\n",
            "r.yml:4 web.tokens[0].file: /no/such/file cannot be read: No such file or directory",
        ),
        (
            HEAD + "web: {tokens: [{name: a, scopes: [read]}]}\n",
            "r.yml:4 web.tokens[0]: needs exactly one of token, file",
        ),
        (
            HEAD + f"web: {{tokens: [{{name: a, scopes: [admin], token: {TOKEN}}}]}}\n",
            "r.yml:4 web.tokens[0].scopes[0]: must be 'alerts', 'deploy', 'read', 'operate' or 'approve', not 'admin'",
        ),
        # The environment.
        (
            put("localhost:9090", "${PROMETHEUS}", HEAD),
            "r.yml:2 prometheus.url: ${PROMETHEUS} is not set in the environment",
        ),
        # YAML.
        (HEAD + "a: [\n", "r.yml:4: invalid YAML: a value is missing, or a bracket is not closed"),
        (HEAD + "\tx: 1\n", "r.yml:4: invalid YAML: a tab in the indentation"),
        (HEAD + "---\nstate: x\n", "r.yml:4: invalid YAML: a second document begins"),
        ("", "r.yml: is empty"),
        ("- a\n", "r.yml:1: is no mapping"),
    ],
)
def test_one_mistake_is_reported_once_with_its_line_and_path(text: str, mistake: str) -> None:
    assert mistakes_in(text) == [mistake]


def test_all_mistakes_are_reported_at_once() -> None:
    text = put("at_least: 1", "at_least: many") + "    cooldown: 5\n    moed: auto\n"
    assert [m.split(": ")[0] for m in mistakes_in(text)] == [
        "r.yml:9 services[0].health_checks[0].at_least",
        "r.yml:14 policies[0].cooldown",
        "r.yml:15 policies[0].moed",
    ]


def test_a_dependency_cycle_is_reported_with_all_its_services() -> None:
    services = put("    rollback", "    depends_on: [database]\n    rollback", SERVICES)
    text = HEAD + services + DATABASE.replace("    rollback", "    depends_on: [backend]\n    rollback")
    assert mistakes_in(text) == [
        "r.yml:7 services[0].depends_on: cycle: backend → database → backend",
        "r.yml:13 services[1].depends_on: cycle: database → backend → database",
    ]


def test_a_service_may_be_in_several_environments() -> None:
    staging = SERVICES.removeprefix("services:\n").replace("production", "staging")
    assert len(parse(HEAD + SERVICES + staging + POLICIES, "r.yml", {}).services) == 2


@pytest.mark.parametrize(
    "text",
    [
        put("roll_back: [backend]", "roll_back: {lable: service}"),
        put("roll_back: [backend]", "roll_back: backend"),
    ],
)
def test_an_invalid_list_of_services_is_reported_once(text: str) -> None:
    """A field with two forms gets one mistake, not both `should be an object` and `should be an array`."""
    assert len(mistakes_in(text)) == 1


def test_an_unknown_key_is_never_suggested_for_itself() -> None:
    """`timeout` exists for another kind of check: `unknown key timeout; did you mean timeout?` is no help."""
    (mistake,) = mistakes_in(put("at_least: 1", "at_least: 1, timeout: 5s"))
    assert mistake.startswith("r.yml:9 services[0].health_checks[0].timeout: not an option here")
    assert "did you mean timeout" not in mistake


@pytest.mark.parametrize(
    "text",
    [
        'a: "\x00"\n',
        "a: \x07\n",
        "a: &a [*a]\n",
        "? [x]\n: y\n",
        "!!python/name:os.system\n",
        "a: !x 1\n",
        "%YAML 9\n",
        "a: *b\n",
    ],
)
def test_unusual_yaml_is_a_mistake_and_not_a_crash(text: str) -> None:
    assert mistakes_in(text)[0].startswith("r.yml")


# --- files ---
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda f: None, "cannot be read: No such file or directory (set its path with --config)"),
        (lambda f: f.mkdir(), "cannot be read: Is a directory (set its path with --config)"),
        (lambda f: f.write_bytes(b"state: \xff\xfe\n"), "cannot be read"),
    ],
)
def test_an_unreadable_file_is_a_mistake(make: object, says: str, tmp_path: Path) -> None:
    file = tmp_path / "responder.yml"
    assert callable(make)
    make(file)
    with pytest.raises(ConfigError) as raised:
        load(file)
    (mistake,) = raised.value.mistakes
    assert re.match(rf"{re.escape(str(file))}(:1)?: ", mistake)
    assert says in mistake


def test_environment_variables_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_HOST", "prom.internal")
    file = tmp_path / "responder.yml"
    file.write_text(put("localhost:9090", "${PROMETHEUS_HOST}:9090", HEAD))
    assert str(load(file).prometheus.url) == "http://prom.internal:9090/"


# --- the environment ---
def test_a_double_dollar_sign_is_one_dollar_sign() -> None:
    check = parse(put("promql: up", "promql: 'x{a=~\"b$$\"}'"), "r.yml", {}).services[0].health_checks[0]
    assert getattr(check, "promql", None) == 'x{a=~"b$"}'


@pytest.mark.parametrize("text", ["b$", "$b", "${b", "$ {b}", "$(b)"])
def test_a_dollar_sign_without_a_variable_stays(text: str) -> None:
    check = parse(put("promql: up", f"promql: '{text}'"), "r.yml", {}).services[0].health_checks[0]
    assert getattr(check, "promql", None) == text


def test_an_environment_variable_is_always_text() -> None:
    evil = "x'}, evil: [1\n - y: ${OTHER}"
    text = put('alertname="BackendDown"', 'a="${EVIL}"')
    (matcher,) = parse(text, "r.yml", {"EVIL": evil}).policies[0].match
    assert matcher.value == evil


# --- secrets ---
def test_the_newline_of_a_token_file_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    text = HEAD + f'web: {{listen: "0.0.0.0:9095", tokens: [{{name: am, scopes: [alerts], file: {file}}}]}}\n'
    assert parse(text, "r.yml", {}).web.tokens[0].secret == TOKEN


def test_a_key_that_cannot_sign_is_reported_with_its_path(tmp_path: Path) -> None:
    file = tmp_path / "clients.pem"
    file.write_text("no key")
    [mistake] = mistakes_in(HEAD + f"clients: {{signing_key_file: {file}}}\n")
    assert mistake.endswith(f" clients.signing_key_file: {file} must hold a PEM private key without a passphrase")


def test_no_secret_is_ever_shown() -> None:
    text = (
        put('9090"}', "9090\", token: '${SECRET}'}")
        + "web: {tokens: [{name: am, scopes: [alerts], token: '${SECRET}'}]}\n"
    )
    config = parse(text, "r.yml", {"SECRET": "sesame-open-yourself"})
    assert config.web.tokens[0].secret == "sesame-open-yourself"
    for shown in (repr(config), str(config), config.model_dump_json(), repr(config.web.tokens[0])):
        assert "sesame" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        "web: {tokens: [{name: am, scopes: [], token: '${SECRET}'}]}\n",
        "web: {tokens: [{name: am, token: '${SECRET}'}]}\n",
        "web: {tokens: [{name: am, scopes: [alerts], token: ['${SECRET}']}]}\n",
        "web: {tokens: ['${SECRET}']}\n",
        "web: {tokens: [{name: am, scopes: [alerts], token: '${SECRET}', file: /x}]}\n",
    ],
)
def test_no_mistake_shows_a_secret(wrong: str) -> None:
    assert "sesame" not in "\n".join(mistakes_in(HEAD + wrong, SECRET="sesame-open-yourself"))


@pytest.mark.parametrize("state", ["mysql://x", "sqlite://relative.db", "state.db", "", "postgres:/x"])
def test_an_invalid_state_url_is_rejected_at_startup(state: str) -> None:
    (mistake,) = mistakes_in(put("sqlite:///var/lib/responder/state.db", f"'{state}'", HEAD))
    assert re.match(r"r\.yml:1 state: .*sqlite:///absolute/path or postgresql://", mistake)


@pytest.mark.parametrize(
    ("listen", "host", "port", "loopback"),
    [
        ("127.0.0.1:9095", "127.0.0.1", 9095, True),
        ("127.5.5.5:1", "127.5.5.5", 1, True),
        ("[::1]:80", "::1", 80, True),
        ("localhost:80", "localhost", 80, True),
    ],
)
def test_a_loopback_address_needs_no_token(listen: str, host: str, port: int, loopback: bool) -> None:
    web = parse(HEAD + f"web: {{listen: '{listen}'}}\n", "r.yml", {}).web
    assert (web.host, web.port, web.loopback) == (host, port, loopback)


@pytest.mark.parametrize("listen", [":9095", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1", "x", "127.0.0.1:²"])
def test_an_invalid_address_is_rejected(listen: str) -> None:
    (mistake,) = mistakes_in(HEAD + f"web: {{listen: '{listen}'}}\n")
    assert mistake == f"r.yml:4 web.listen: {listen!r} is not an address and a port such as 127.0.0.1:9095"


def test_the_password_of_the_journal_comes_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a/b@:c\n")
    text = put("sqlite:///var/lib/responder/state.db", f"postgresql://r@h/db?ssl=on\nstate_password_file: {secret}")
    config = parse(text, "r.yml", {})
    assert (config.state, config.journal_url) == (
        "postgresql://r@h/db?ssl=on",
        "postgresql://r:a%2Fb%40%3Ac@h/db?ssl=on",
    )
    assert parse(ALL, "r.yml", {}).journal_url == "sqlite:///var/lib/responder/state.db"


@pytest.mark.parametrize(
    ("state", "file", "wrong"),
    [
        (
            "sqlite:///s.db",
            "/dev/null",
            "needs a state such as postgresql://user@host/database, without a password",
        ),
        (
            "postgresql://r:p@h/d",
            "/dev/null",
            "needs a state such as postgresql://user@host/database, without a password",
        ),
        (
            "postgresql://h/d",
            "/dev/null",
            "needs a state such as postgresql://user@host/database, without a password",
        ),
        ("postgresql://r@h/d", "/no/such", "/no/such cannot be read: No such file or directory"),
    ],
)
def test_a_password_file_without_a_matching_state_is_a_mistake(state: str, file: str, wrong: str) -> None:
    text = put("sqlite:///var/lib/responder/state.db", f"{state}\nstate_password_file: {file}")
    assert mistakes_in(text) == [f"r.yml:2 state_password_file: {wrong}"]


@pytest.mark.parametrize(
    "written",
    ["$TOKEN", "$RESPONDER_ALICE_TOKEN", "$${RESPONDER_ALICE_TOKEN", "%RESPONDER_TOKEN%", "{{ responder.token }}"],
)
def test_a_placeholder_secret_is_rejected(written: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(written.replace("$$", "$"))
    for key, value in (("token", f"'{written}'"), ("file", str(tmp_path / "secret"))):
        text = HEAD + f"web:\n  tokens:\n  - name: a\n    scopes: [read]\n    {key}: {value}\n"
        (mistake,) = mistakes_in(text)
        assert mistake.startswith(f"r.yml:8 web.tokens[0].{key}: ")
        assert "unexpanded reference" in mistake


def test_the_same_secret_under_two_names_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(TOKEN + "\n")
    text = HEAD + (
        f"web:\n  tokens:\n  - {{name: am, scopes: [alerts], token: {TOKEN}}}\n"
        f"  - {{name: alice, scopes: [approve], file: {tmp_path / 'secret'}}}\n"
    )
    (mistake,) = mistakes_in(text)
    assert mistake.startswith("r.yml:7 web.tokens[1]: has the same secret as tokens[0] (am)")


ARCHIVE = "archive: /srv/archive"


@pytest.mark.parametrize(
    ("journal", "where", "problem"),
    [
        ("retention: 30d", "journal", "set both `retention` and `archive`: nothing is deleted that is not archived"),
        (ARCHIVE, "journal", "set both `retention` and `archive`: nothing is deleted that is not archived"),
        (f"retention: 6d, {ARCHIVE}", "journal.retention", "greater than or equal to 7d"),
        ("retention: 30d, archive: archive", "journal.archive", "neither the absolute path of a directory nor s3://"),
        ("retention: 30d, archive: 's3://B'", "journal.archive", "neither the absolute path of a directory nor s3://"),
    ],
)
def test_a_retention_needs_an_archive(journal: str, where: str, problem: str) -> None:
    (mistake,) = mistakes_in(HEAD + f"journal: {{{journal}}}\n")
    assert mistake.startswith(f"r.yml:4 {where}: ")
    assert problem in mistake


def test_a_retention_covers_what_a_promotion_looks_back_on() -> None:
    text = put("environment: production\n", "environment: production\n    soak: 30d\n")
    (mistake,) = mistakes_in(f"{text}journal: {{retention: 30d, {ARCHIVE}}}\n")
    assert "journal.retention: must be longer than soak of backend" in mistake
    parse(f"{text}journal: {{retention: 31d, {ARCHIVE}}}\n", "r.yml", {})


def test_an_archive_is_a_directory_or_a_bucket() -> None:
    found = [
        parse(HEAD + f"journal: {{retention: 30d, archive: '{archive}'}}\n", "r.yml", {}).journal.bucket
        for archive in ("/srv/archive", "s3://bucket", "s3://bucket/a/b")
    ]
    assert found == [None, ("bucket", ""), ("bucket", "a/b")]


# --- mistakes beside others ---
WRONG_PARTS = {
    "an unknown key": ("release:", "relase:"),
    "an empty list": ("health_checks:\n      - {promql: up, at_least: 1}", "health_checks: []"),
    "a wrong value": ("at_least: 1", "at_least: one"),
    "a variable that is not set": ("promql: up", "promql: '${QUERY}'"),
    "a duplicate key": ("    rollback:", "    soak: 5m\n    soak: 6m\n    rollback:"),
}


@pytest.mark.parametrize("wrong", WRONG_PARTS.values(), ids=WRONG_PARTS)
def test_references_are_checked_beside_mistakes_in_fields(wrong: tuple[str, str]) -> None:
    database = DATABASE.replace("    rollback", "    depends_on: [backend, cach]\n    rollback")
    services = put("    rollback", "    depends_on: [database]\n    rollback", SERVICES)
    text = HEAD + put(*wrong, within=services) + database + POLICIES.replace("[backend]", "[backend, backnd]")
    found = [mistake.partition(" ")[2] for mistake in mistakes_in(text)]
    assert len(found) == 5, found
    assert {
        "services[0].depends_on: cycle: backend → database → backend",
        "services[1].depends_on: cycle: database → backend → database",
        "services[1].depends_on[1]: no service cach is configured in production",
        "policies[0].roll_back[1]: no service backnd is configured",
    } < set(found)


@pytest.mark.parametrize(
    "text",
    [
        put("name: backend", "name: Backend"),
        put("environment: production", "environment: no"),
        put("  - name: backend", "  - nam: backend"),
        put("services:\n", "services: 5\nx-services:\n"),
        HEAD + "web: {listen: x}\n",
    ],
)
def test_what_only_follows_from_a_mistake_is_not_reported(text: str) -> None:
    assert len([mistake for mistake in mistakes_in(text) if "no service backend" not in mistake]) == 1


def test_keys_for_anchors_are_ignored() -> None:
    text = HEAD + (
        "x-release: &release {strategy: immediate, release: {root: '/srv/${NAME}'}}\n"
        "x-note: '${NOT_SET}'\n"
        + SERVICES.replace("{strategy: immediate, release: {root: /srv/shop}}", "*release")
        + DATABASE.replace("{strategy: immediate, release: {root: /srv/db}}", "{<<: *release, strategy: immediate}")
    )
    first, second = parse(text, "r.yml", {"NAME": "shop"}).services
    assert first.rollback == second.rollback


def test_a_mistake_in_an_anchor_is_reported_where_it_is_written() -> None:
    text = HEAD + "x-release: &release\n  relase: {root: /srv/shop}\n" + SERVICES
    text = text.replace("{strategy: immediate, release: {root: /srv/shop}}", "{<<: *release, strategy: immediate}")
    assert mistakes_in(text) == ["r.yml:5 services[0].rollback.relase: unknown key"]
