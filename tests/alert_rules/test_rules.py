"""Alert rules, their tests, runbooks and routes are consistent with each other and with Prometheus 2 and 3."""

import importlib
import json
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import TypeAdapter

from responder.assets import RUNBOOK_URL
from responder.cli.checking.alert_chain import unmatched_rules
from responder.cli.checking.rule_files import read_rules
from responder.decisions.policies import Policy
from tests import parts

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "alert_rules"
RUNBOOKS = ROOT / "docs" / "runbooks"

EXAMPLES = {
    name: yaml.safe_load((DIRECTORY / f"{name}.example.yml").read_text()) for name in ("alertmanager", "prometheus")
}
FILES = sorted(path for path in DIRECTORY.glob("*.yml") if not path.name.endswith(".example.yml"))
TESTS = sorted((DIRECTORY / "tests").glob("*.yml"))
RULES: list[tuple[Path, dict[str, Any]]] = [
    (path, rule) for path in FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for _, rule in RULES if "alert" in rule}
TROUBLE = "service_environment:trouble"
ROLLING_BACK = sorted(name for name, rule in ALERTS.items() if "rollback" in rule["labels"])
KEEPING_LOGS = sorted(name for name, rule in ALERTS.items() if "preserve_logs" in rule["labels"])
FOR_HUMANS = sorted(set(ALERTS) - {*ROLLING_BACK, *KEEPING_LOGS, "RollbackAutomationArmed"})

RECENT_DEPLOYMENT = (
    "and on (service, environment) "
    "(time() - max by (service, environment) ( responder_deployment_timestamp_seconds or "
    'last_over_time(responder_deployment_timestamp_seconds[2m]) unless on () up{job="responder"} == 1 '
    ") < 3600 > -60)"
)


def run(*argv: str | Path) -> str:
    parts.need(str(argv[0]))
    program = parts.program(str(argv[0]))
    assert program
    ran = subprocess.run([program, *map(str, argv[1:])], capture_output=True, text=True, cwd=DIRECTORY)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def one_line(expr: str) -> str:
    return " ".join(expr.split())


def of(name: str) -> dict[str, Any]:
    return ALERTS[name]


def troubles(name: str) -> list[dict[str, Any]]:
    """The recording rules of the alert's trouble, without the join with the deployment."""
    return [rule for _, rule in RULES if rule.get("record") == TROUBLE and rule["labels"]["alertname"] == name]


def unfolded(expr: str) -> str:
    """The expression, followed by those of the recording rules that it uses."""
    read = {rule["record"] for _, rule in RULES if "record" in rule and re.search(rf"{rule['record']}\b", expr)}
    recorded = [rule for _, rule in RULES if rule.get("record") in read - {TROUBLE}]
    recorded += [rule for name in re.findall(rf'{TROUBLE}{{alertname="(\w+)"}}', expr) for rule in troubles(name)]
    return "\n".join([expr, *(unfolded(rule["expr"]) for rule in recorded)])


# --- rules ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_promtool_accepts_the_rules(file: Path) -> None:
    run("promtool", "check", "rules", "--lint-fatal", file)


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_rules_pass_their_promtool_tests(file: Path) -> None:
    run("promtool", "test", "rules", file)


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_no_result_depends_on_the_start_of_a_window(file: Path, tmp_path: Path) -> None:
    """Prometheus 3 excludes the sample at the start of a window; windows shortened by 1 ms do the same."""
    shortened = 0

    def shorter(match: re.Match[str]) -> str:
        nonlocal shortened
        shortened += 1
        units = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
        return f"[{int(match[1]) * units[match[2]] - 1}ms]"

    for rules in FILES:
        (tmp_path / rules.name).write_text(re.sub(r"\[(\d+)([mhd])\]", shorter, rules.read_text()))
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / file.name).write_text(file.read_text())
    assert shortened > 20
    run("promtool", "test", "rules", tmp_path / "tests" / file.name)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_summary_description_and_runbook(name: str) -> None:
    annotations = of(name)["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert all(text.strip() for text in annotations.values())
    assert annotations["runbook_url"] == f"{RUNBOOK_URL}/{name}"


def test_no_alert_has_the_name_of_one_of_kube_prometheus() -> None:
    """The same name with another meaning would mix in routes, silences and inhibitions."""
    taken = (Path(__file__).parent / "kube_prometheus_alerts.txt").read_text().split()
    assert "TargetDown" in taken
    assert set(ALERTS) & set(taken) == set()


@pytest.mark.parametrize("name", ALERTS)
def test_labels_are_constant(name: str) -> None:
    labels = of(name)["labels"]
    assert "{{" not in json.dumps(labels), "a changing label creates a new alert each time"
    assert labels["severity"] in {"critical", "warning", "none"}
    assert set(labels) <= {"severity", "rollback", "preserve_logs"}
    assert not {"rollback", "preserve_logs"} <= set(labels), "the responder would receive it twice"


def test_each_alert_and_recording_rule_is_defined_once_and_used() -> None:
    named = [rule["alert"] for _, rule in RULES if "alert" in rule]
    assert sorted(named) == sorted(ALERTS)
    recorded = [(rule["record"], *sorted(rule.get("labels", {}).items())) for _, rule in RULES if "record" in rule]
    assert len(recorded) == len(set(recorded))
    everything = "\n".join(rule["expr"] for _, rule in RULES) + "".join(
        (ROOT / "responder" / name).read_text()
        for name in ("decisions/trouble.py", "backends/prometheus/trouble_check.py")
    )
    unused = [name for name, *_ in recorded if not re.search(re.escape(name) + r"\b", everything)]
    assert unused == [], "unused recording rules"


@pytest.mark.parametrize("name", ALERTS)
def test_rollback_alerts_require_a_recent_deployment(name: str) -> None:
    rule = of(name)
    joined = RECENT_DEPLOYMENT in one_line(rule["expr"])
    assert joined == (rule["labels"].get("rollback") == "true")
    assert rule["labels"].get("rollback") in {None, "true"}


@pytest.mark.parametrize("name", ROLLING_BACK)
def test_rollback_alerts_ignore_missing_data_and_the_past(name: str) -> None:
    rule = of(name)
    assert rule["labels"]["severity"] == "critical"
    assert not {"for", "keep_firing_for"} & set(rule), (
        "the window already damps, and past trouble does not justify a rollback"
    )
    (trouble,) = troubles(name)
    for expr in (one_line(rule["expr"]).removesuffix(RECENT_DEPLOYMENT), trouble["expr"]):
        assert not re.search(r"\babsent|\bunless\b|\bup\b|\bor\b|vector\(", expr)


@pytest.mark.parametrize("name", ROLLING_BACK)
def test_trouble_is_recorded_without_the_deployment_before_its_alert(name: str) -> None:
    """The responder queries it before the deployment; the alert itself starts with the deployment."""
    (trouble,) = troubles(name)
    assert trouble["labels"] == {"alertname": name}
    assert "responder_" not in unfolded(trouble["expr"])
    assert one_line(of(name)["expr"]) == f'{TROUBLE}{{alertname="{name}"}} {RECENT_DEPLOYMENT}'
    groups = [group["rules"] for path in FILES for group in yaml.safe_load(path.read_text())["groups"]]
    (rules,) = [rules for rules in groups if of(name) in rules]
    assert rules.index(trouble) < rules.index(of(name))


@pytest.mark.parametrize("record", [TROUBLE, f"{TROUBLE}:now", "alertname:trouble:evaluation_timestamp"])
def test_trouble_is_recorded_for_every_rollback_alert(record: str) -> None:
    assert sorted(r["labels"]["alertname"] for _, r in RULES if r.get("record") == record) == ROLLING_BACK


@pytest.mark.parametrize("name", ROLLING_BACK)
def test_current_trouble_is_recorded_next_to_the_alert(name: str) -> None:
    groups = [group["rules"] for path in FILES for group in yaml.safe_load(path.read_text())["groups"]]
    (rules,) = [rules for rules in groups if of(name) in rules]
    of_trouble = [rule for rule in rules if rule.get("labels", {}).get("alertname") == name]
    recorded = [TROUBLE, f"{TROUBLE}:now", "alertname:trouble:evaluation_timestamp"]
    assert [rule["record"] for rule in of_trouble] == recorded, (
        "the timestamp must be last: it confirms the evaluation of the others"
    )
    now = of_trouble[1]["expr"]
    looked_back = re.findall(r"(\w+)\([^()]*\[", now)
    assert set(looked_back) <= {"irate"}, "other functions depend on the scrape interval"
    assert "responder_" not in now


def test_required_rules_have_the_required_thresholds() -> None:
    """Names and thresholds of the original requirements."""
    wanted = {
        "ServiceFailing": ["[5m]", ">= 3"],
        "SeveralServicesFailing": ["[3m]", ">= 2"],
        "ResourceWarning": ["> 0.80"],
        "ResourceCritical": ["> 0.95"],
        "SystemMetricHigh": ["> 0.90"],
        "DatabaseConnectionLost": ["probe_failed_due_to_connect"],
        "HighErrorRate": ["> 0.05"],
        "SystemOverload": ["resource_load1"],
    }
    assert {n: [part for part in ps if part in unfolded(of(n)["expr"])] for n, ps in wanted.items()} == wanted


def published() -> re.Pattern[str]:
    """Matches the series names in the sources of exporters and responder; an f-string matches several."""
    text = "\n".join(path.read_text() for name in ("exporters", "responder") for path in (ROOT / name).rglob("*.py"))
    names = re.findall(r'"((?:resource|probe|exporter|responder)_[\w{}]+)"', text)
    return re.compile("|".join(re.sub(r"\{\w+\}", "[a-z0-9]+", name) + "(_total)?" for name in set(names)))


def titled(value: Any) -> str:
    return str(value.get("alert") or value.get("record")) if isinstance(value, dict) else value.stem


@pytest.mark.parametrize(("file", "rule"), RULES, ids=titled)
def test_rules_use_exported_series(file: Path, rule: dict[str, Any]) -> None:
    selectors = re.sub(r'"[^"]*"', '""', rule["expr"])
    used = re.findall(r"(?<![\w:])(?:resource|probe|exporter|responder)_\w+(?![\w:(])", selectors)
    assert [name for name in used if not published().fullmatch(name)] == [], file.name


JOBS = {"probe": "probes", "resource": "exporters", "exporter": "exporters"}


@pytest.mark.parametrize(("file", "rule"), RULES, ids=titled)
def test_rules_select_only_series_of_our_exporters(file: Path, rule: dict[str, Any]) -> None:
    """Other exporters use the same names, such as probe_success of blackbox_exporter."""
    selectors = re.findall(r"(?<![\w:])((probe|resource|exporter)_\w+)(?![\w:(])(\{[^}]*\})?", rule["expr"])
    foreign = [name for name, kind, labels in selectors if not labels.startswith(f'{{job="{JOBS[kind]}"')]
    assert foreign == [], file.name


# --- tests of the rules -----------------------------------------------------------------------------------------------
@cache
def cases() -> list[dict[str, Any]]:
    """The test groups of every file; read once, since reading takes seconds."""
    return [group for file in TESTS for group in yaml.safe_load(file.read_text())["tests"]]


def expectations(name: str) -> tuple[int, int]:
    """How often a test expects the alert, and how often it expects none."""
    checks = [check for case in cases() for check in case.get("alert_rule_test", ()) if check["alertname"] == name]
    fires = sum(bool(check["exp_alerts"]) for check in checks)
    return fires, len(checks) - fires


@pytest.mark.parametrize("name", sorted(set(ALERTS) - {"RollbackAutomationArmed"}))
def test_every_alert_is_tested_both_ways(name: str) -> None:
    fires, silent = expectations(name)
    assert fires >= 1
    assert silent >= 3  # before the threshold, without data, and after recovery


def test_the_watchdog_always_fires() -> None:
    fires, silent = expectations("RollbackAutomationArmed")
    assert fires >= 2
    assert silent == 0


def titles(name: str) -> str:
    return "\n".join(group["name"] for group in cases() if group["name"].startswith(f"{name}:"))


@pytest.mark.parametrize("name", ROLLING_BACK)
def test_rollback_alerts_are_tested_against_false_positives(name: str) -> None:
    wanted = ["resolves", "short of|one failure short", "missing data", "not before the deployment", "long ago"]
    for case in [*wanted, "older than the deployment", "begins after the deployment", "in the future"]:
        assert re.search(case, titles(name)), f"no test of {name} says: {case}"


def test_tests_name_only_alerts_that_exist() -> None:
    """promtool treats an unknown name as an alert that does not fire."""
    for group in cases():
        assert {check["alertname"] for check in group.get("alert_rule_test", ())} <= set(ALERTS), group["name"]
        assert group["name"].split(":")[0] in ALERTS


# --- policies ---------------------------------------------------------------------------------------------------------
def documented_policies() -> list[tuple[str, tuple[Policy, ...]]]:
    """The policies of every configuration that is shown to users."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    blocks = [
        (page, text) for page in pages for text in re.findall(r"^ *```yaml\n(.*?)^ *```", page.read_text(), re.M | re.S)
    ]
    blocks += [
        (file, file.read_text())
        for file in (ROOT / "examples" / "responder.yml", ROOT / "examples/stack/responder.yml")
    ]
    loaded = [(page, yaml.safe_load(text)) for page, text in blocks if re.search("^policies:", text, re.M)]
    read = TypeAdapter(tuple[Policy, ...]).validate_python
    return [(f"{page.relative_to(ROOT)}", read(data["policies"])) for page, data in loaded]


@cache
def shipped_groups() -> list[dict[str, Any]]:
    return [group for file in FILES for group in read_rules(file)]


COMPLETE = {"README.md", "examples/responder.yml", "examples/stack/responder.yml"}


@pytest.mark.parametrize(
    ("page", "policies"), documented_policies(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_shown_policies_take_every_shipped_offer_of_a_rollback_or_none(page: str, policies: tuple[Policy, ...]) -> None:
    """Each of the rules may be the first to fire after a bad deployment."""
    missing = sorted(problem.target.split()[1] for problem in unmatched_rules(shipped_groups(), policies))
    assert missing == [] or (missing == ROLLING_BACK and page not in COMPLETE)


# --- runbooks ---------------------------------------------------------------------------------------------------------
def test_every_alert_has_a_runbook() -> None:
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == sorted(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_says_what_happens_and_what_to_do(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert headings == [name, *(["Stop the rollback"] if name in ROLLING_BACK else []), "Diagnosis"]
    assert len(text.splitlines()) <= 40
    assert "Responder action:" in text
    assert f"amtool silence add alertname={name} " in text
    if name in ROLLING_BACK:
        assert "responder stop" in text
        assert "alertname=RollbackAutomationArmed" in text
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert (RUNBOOKS / link).resolve().is_file()


async def test_silence_commands_in_runbooks_work(tmp_path: Path) -> None:
    parts.need("prometheus-alertmanager", "amtool")
    written = {
        command
        for page in RUNBOOKS.glob("*.md")
        for command in re.findall(r"amtool silence add [^`\n]+", page.read_text())
    }
    assert len(written) > len(ALERTS)
    async with parts.alertmanager(tmp_path, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n") as am:
        for command in sorted(written):
            program, *arguments = shlex.split(command, comments=True)
            assert re.fullmatch(r"[0-9a-f-]{36}\n", run(program, f"--alertmanager.url={am.url}", *arguments))


def commands() -> dict[tuple[str, str], set[str]]:
    """Commands of responder and exporters in the runbooks, with their options."""
    found: dict[tuple[str, str], set[str]] = {}
    for page in RUNBOOKS.glob("*.md"):
        for written in re.findall(r"^(?:responder|exporters) .*$|(?<=`)[^`\n]+(?=`)", page.read_text(), re.MULTILINE):
            if match := re.match(r"(responder|exporters) (\w+)(.*)", written):
                found.setdefault((match[1], match[2]), set()).update(re.findall(r"(?<=\s)--[a-z-]+", match[3]))
    return found


@pytest.mark.parametrize(("program", "command"), sorted(commands()))
def test_commands_in_runbooks_exist_with_their_options(
    program: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert importlib.import_module(f"{program}.cli").main([command, "--help"]) == 0
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert commands()[program, command] <= known


# --- example configurations -------------------------------------------------------------------------------------------
def test_promtool_accepts_the_example(tmp_path: Path) -> None:
    """Including its rule files and its token file."""
    text = (DIRECTORY / "prometheus.example.yml").read_text()
    token = tmp_path / "responder.token"
    token.write_text("secret")
    for file in FILES:
        (tmp_path / file.name).write_text(file.read_text())
    example = tmp_path / "prometheus.yml"
    example.write_text(text.replace("/etc/prometheus/responder.token", str(token)))
    assert str(token) in example.read_text()
    run("promtool", "check", "config", example)
    assert sorted(EXAMPLES["prometheus"]["rule_files"]) == [file.name for file in FILES]


def test_the_example_has_the_jobs_that_rules_use() -> None:
    jobs = {job["job_name"] for job in EXAMPLES["prometheus"]["scrape_configs"]}
    used = {
        job for _, rule in RULES for names in re.findall(r'job!?=~?"([^"]+)"', rule["expr"]) for job in names.split("|")
    }
    assert used == {"probes", "exporters", "responder"}
    assert used <= jobs
    responder = next(job for job in EXAMPLES["prometheus"]["scrape_configs"] if job["job_name"] == "responder")
    assert responder["static_configs"] == [{"targets": ["127.0.0.1:9095"]}], "labels here would rename the series' own"


def test_documented_jobs_are_those_that_rules_use() -> None:
    found: dict[Path, set[tuple[str, str]]] = {}
    for path in [ROOT / "README.md", *(p for d in ("docs", "examples", "alert_rules") for p in (ROOT / d).rglob("*"))]:
        if path.suffix not in {".md", ".yml"}:
            continue
        for job in re.split(r"(?=\bjob_name:)", path.read_text())[1:]:
            name, job = re.findall(r"[\w-]+", job)[1], re.split(r"\n#?\s*\n|```", job)[0]
            if endpoint := re.search(r"/sd\b", job) or re.search(r":9469\b", job):
                found.setdefault(path.relative_to(ROOT), set()).add((name, endpoint[0]))
    assert set().union(*found.values()) == {("probes", "/sd"), ("exporters", ":9469")}
    assert {Path("docs/reference/exporters.md"), Path("examples/exporters.yml")} <= set(found)


def test_amtool_accepts_the_example() -> None:
    assert "SUCCESS" in run("amtool", "check-config", "alertmanager.example.yml")


def receivers(**labels: str) -> list[str]:
    argv = [f"{name}={value}" for name, value in labels.items()]
    return run("amtool", "config", "routes", "test", "--config.file=alertmanager.example.yml", *argv).strip().split(",")


BACKEND = {"service": "backend", "environment": "production"}


@pytest.mark.parametrize("name", [*ROLLING_BACK, *KEEPING_LOGS])
def test_alerts_that_the_responder_handles_also_reach_people(name: str) -> None:
    assert receivers(alertname=name, **of(name)["labels"], **BACKEND) == ["responder", "humans"]


@pytest.mark.parametrize("name", FOR_HUMANS)
def test_other_alerts_reach_people_only(name: str) -> None:
    assert receivers(alertname=name, **of(name)["labels"], **BACKEND) == ["humans"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"alertname": "RollbackRequested", **BACKEND}, ["responder", "humans"]),
        ({"alertname": "RollbackRequested", "rollback": "true", "preserve_logs": "true"}, ["responder", "humans"]),
        ({"alertname": "CustomAlert", "rollback": "true", "preserve_logs": "true"}, ["responder", "humans"]),
        ({"alertname": "CustomAlert", "rollback": "false"}, ["humans"]),
        ({"alertname": "RollbackAutomationArmed", "severity": "none"}, ["responder"]),
    ],
    ids=lambda value: " ".join(value.values() if isinstance(value, dict) else value),
)
def test_custom_alerts_are_routed_once(labels: dict[str, str], expected: list[str]) -> None:
    assert receivers(**labels) == expected


def test_the_responder_receives_each_alert_ungrouped_and_repeated() -> None:
    routes = [route for route in EXAMPLES["alertmanager"]["route"]["routes"] if route["receiver"] == "responder"]
    assert len(routes) == 4
    for route in routes:
        assert route["group_by"] == ["..."]
        assert route["group_wait"] == "0s"
        assert route["group_interval"] == "10s"
        assert route["repeat_interval"] in {"1m", "5m"}
        assert route.get("continue") == (None if "RollbackAutomationArmed" in str(route["matchers"]) else True)
    (receiver,) = [each for each in EXAMPLES["alertmanager"]["receivers"] if each["name"] == "responder"]
    assert receiver["webhook_configs"] == [
        {
            "url": "http://127.0.0.1:9095/api/v1/alerts",
            "send_resolved": True,
            "max_alerts": 0,
            "http_config": {
                "follow_redirects": False,
                "authorization": {"type": "Bearer", "credentials_file": "/etc/alertmanager/responder.token"},
            },
        }
    ]


def test_no_inhibition_mutes_rollback_alerts() -> None:
    for inhibition in EXAMPLES["alertmanager"]["inhibit_rules"]:
        (target,) = inhibition["target_matchers"]
        match = re.fullmatch(r'alertname=~?"([\w|]+)"', target)
        assert match, f"{target} may match anything"
        assert set(match[1].split("|")) <= set(FOR_HUMANS)
        (source,) = inhibition["source_matchers"]
        assert source.split('"')[1] in ALERTS


# --- real Prometheus and Alertmanager ---------------------------------------------------------------------------------
async def test_a_real_prometheus_evaluates_every_rule(tmp_path: Path) -> None:
    parts.need("prometheus")
    config = "global: {scrape_interval: 200ms, evaluation_interval: 200ms}"
    async with parts.prometheus(tmp_path, config, rules={file.name: file.read_text() for file in FILES}) as p:
        await p.until('ALERTS{alertname="RollbackAutomationArmed", alertstate="firing"}')
        bad = []
        for _, rule in RULES:
            try:
                await p.query(rule["expr"])
            except RuntimeError as error:
                bad.append(str(error))
        assert bad == []


async def test_a_real_alertmanager_sends_each_alert_alone_with_the_token(tmp_path: Path) -> None:
    parts.need("prometheus-alertmanager")
    posts: list[tuple[str | None, dict[str, Any]]] = []

    async def take(request: web.Request) -> web.Response:
        posts.append((request.headers.get("Authorization"), await request.json()))
        return web.Response(status=202)

    async def slack(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/api/v1/alerts", take)
    app.router.add_post("/slack", slack)
    server = TestServer(app)
    await server.start_server()
    try:
        config = (DIRECTORY / "alertmanager.example.yml").read_text()
        for name, secret in {"responder.token": "s3cret", "slack.url": str(server.make_url("/slack"))}.items():
            (tmp_path / name).write_text(secret)
            config = config.replace(f"/etc/alertmanager/{name}", str(tmp_path / name))
        config = config.replace("http://127.0.0.1:9095/", str(server.make_url("/")))
        async with parts.alertmanager(tmp_path, config) as am:
            for service in ("backend", "frontend"):
                await am.alert({"alertname": "ServiceFailing", "service": service, **of("ServiceFailing")["labels"]})
            await am.alert({"alertname": "CheckFailing", "service": "shop", **of("CheckFailing")["labels"]})
            await am.alert({"alertname": "RollbackAutomationArmed", "severity": "none"})
            await parts.until(lambda: arrived(posts), lambda n: n >= 3)
    finally:
        await server.close()
    assert {token for token, _ in posts} == {"Bearer s3cret"}
    assert all(len(body["alerts"]) == 1 and body["truncatedAlerts"] == 0 for _, body in posts)
    labels = [body["alerts"][0]["labels"] for _, body in posts]
    assert sorted((each["alertname"], each.get("service", "")) for each in labels) == [
        ("RollbackAutomationArmed", ""),
        ("ServiceFailing", "backend"),
        ("ServiceFailing", "frontend"),
    ]


async def arrived(posts: list[Any]) -> int:
    return len(posts)
