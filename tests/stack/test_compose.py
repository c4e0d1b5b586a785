"""The real Compose accepts docker-compose.yml, which confines every container."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporters.config import load as load_exporters
from responder.app.loading import parse
from tests.parts import need
from tests.stack.docker import ROOT, Docker, compose_program, config

STACK = ROOT / "examples" / "stack"
PARSED = config()
SERVICES: dict[str, dict[str, Any]] = PARSED["services"]
RUNNING = sorted(set(SERVICES) - {"ship"})  # it ends after its work
each = pytest.mark.parametrize("name", sorted(SERVICES))


def test_compose_accepts_the_file() -> None:
    argv = [str(compose_program()), "--profile", "*", "config", "--quiet"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_compose_key_is_a_failure(tmp_path: Path) -> None:
    """Shows that the previous test can fail."""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("services: {shop-web: {helthcheck: {}}}\n")
    with pytest.raises(AssertionError, match="helthcheck"):
        Docker("unix:///nowhere", tmp_path, wrong)("compose", "config", "--quiet")


def test_every_promised_service_exists() -> None:
    kinds = {name: service["image"].partition(":")[0] for name, service in SERVICES.items()}
    assert [name for name, image in kinds.items() if image == "prom/prometheus"] == ["prometheus"]
    assert [name for name, image in kinds.items() if image == "prom/alertmanager"] == ["alertmanager"]
    assert [name for name, image in kinds.items() if image == "grafana/grafana"] == ["grafana"]
    assert {name for name, image in kinds.items() if image == "postgres"} == {"postgres", "shop-database"}
    assert {name for name, image in kinds.items() if image == "nginx"} == {"shop-web", "shop-proxy"}
    ours = {"responder-a", "responder-b", "exporters", "shop-blue", "shop-green", "customers", "ship"}
    assert {name for name, image in kinds.items() if image == "rollback-responder"} == ours


@each
def test_the_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"]), "a number, and not root"
    for forbidden in ("privileged", "pid", "ipc", "network_mode", "devices", "userns_mode"):
        assert forbidden not in service
    assert not any("docker.sock" in mount["source"] for mount in service.get("volumes", ()))


@each
def test_images_are_pinned(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-\w+)?", SERVICES[name]["image"])


@pytest.mark.parametrize("name", RUNNING)
def test_services_have_health_checks_and_restart(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert not check.get("disable")
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_dependencies_wait_for_healthy_services() -> None:
    waits = [needed["condition"] for service in SERVICES.values() for needed in service.get("depends_on", {}).values()]
    assert set(waits) == {"service_healthy"}


def test_ports_are_published_on_loopback_only() -> None:
    published = [(name, port) for name, service in SERVICES.items() for port in service.get("ports", ())]
    assert len(published) == 6
    for name, port in published:
        assert ipaddress.ip_address(port["host_ip"]).is_loopback, name


@each
def test_secrets_are_files(name: str) -> None:
    service = SERVICES[name]
    for key, value in service.get("environment", {}).items():
        assert not re.search("PASSWORD|TOKEN|SECRET", key) or re.fullmatch(r"/run/secrets/\w+", value), key
        assert not re.search(r"://[^/@]*:[^/@]*@", value), f"{key} holds a password"
    text = json.dumps([service.get("command"), service.get("entrypoint"), service["healthcheck"]])
    assert not re.search("password|token=", text, flags=re.IGNORECASE)
    mounted = {secret["source"] for secret in service.get("secrets", ())}
    named = set(re.findall(r"/run/secrets/(\w+)", json.dumps(service.get("environment", {}))))
    assert named <= mounted


def test_each_service_has_only_its_own_secrets() -> None:
    """Only the services that need them have the superuser's password and the operator's token."""
    holders: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for secret in service.get("secrets", ()):
            holders.setdefault(secret["source"], set()).add(name)
    responders = {"responder-a", "responder-b"}
    assert holders == {
        "postgres": {"postgres", "shop-database"},
        "responder_database": {"postgres", *responders},
        "grafana_reader": {"postgres", "grafana"},
        "grafana_admin": {"grafana"},
        "shop_database": {"shop-database", "shop-blue", "shop-green"},
        "alertmanager_token": {"alertmanager", *responders},
        "prometheus_token": {"prometheus", *responders},
        "pipeline_token": {"ship", *responders},
        "operator_token": responders,
    }
    assert set(PARSED["secrets"]) == set(holders)


def test_secrets_are_created_once_and_private(tmp_path: Path) -> None:
    there = tmp_path / "secrets"

    def made() -> dict[str, str]:
        subprocess.run(["sh", str(STACK / "secrets.sh"), str(there)], check=True)
        return {file.name: file.read_text() for file in there.iterdir()}

    first = made()
    assert set(first) == set(PARSED["secrets"])
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in first.values())
    assert len(set(first.values())) == len(first)
    assert made() == first
    assert stat.S_IMODE(there.stat().st_mode) == 0o700
    ignored = subprocess.run(["git", "check-ignore", "-q", "examples/stack/secrets/postgres"], cwd=ROOT, check=False)
    assert ignored.returncode == 0


def test_mounted_paths_exist() -> None:
    """Compose would create missing paths as directories. Grafana's are in grafana/."""
    for name in sorted(set(SERVICES) - {"grafana"}):
        for mount in SERVICES[name].get("volumes", ()):
            if mount["type"] == "bind":
                assert Path(mount["source"]).exists(), mount["source"]
                assert mount["read_only"], mount["source"]


def test_database_scripts_are_standalone() -> None:
    """The entry script of the PostgreSQL image sources non-executable files, and would inherit `set -u`."""
    for name in ("postgres", "shop-database"):
        scripts = [m["source"] for m in SERVICES[name]["volumes"] if "initdb" in m["target"]]
        assert scripts and all(os.access(script, os.X_OK) for script in scripts)


def test_grafana_gets_the_variables_of_its_provisioning() -> None:
    provisioning = ROOT / "grafana" / "provisioning"
    text = "".join(file.read_text() for file in provisioning.rglob("*.y*ml"))
    assert set(re.findall(r"\$\{([A-Z_]+)\}", text)) <= set(SERVICES["grafana"]["environment"])
    for path in re.findall(r"^ +path: (/\S+)$", text, flags=re.MULTILINE):
        assert path in {mount["target"] for mount in SERVICES["grafana"]["volumes"]}


def test_both_replicas_are_configured_alike() -> None:
    first, second = (dict(SERVICES[f"responder-{letter}"]) for letter in "ab")
    assert first.pop("ports") != second.pop("ports")
    assert first == second


def test_the_configurations_are_good(tmp_path: Path) -> None:
    subprocess.run(["sh", str(STACK / "secrets.sh"), str(tmp_path / "secrets")], check=True)
    text = (STACK / "responder.yml").read_text().replace("/run/secrets/", f"{tmp_path}/secrets/")
    responder = parse(text, "responder.yml", {})
    checks = load_exporters(STACK / "exporters.yml", {}).config.checks
    assert {service.name for service in responder.services} == {"shop"}
    assert {(check.service, check.environment) for check in checks} == {("shop", "production")}
    config = yaml.safe_load((STACK / "alertmanager.yml").read_text())
    urls = {hook["url"] for r in config["receivers"] for hook in r.get("webhook_configs", ())}
    assert urls == {f"http://responder-{letter}:9095/api/v1/alerts" for letter in "ab"}


def test_the_proxy_and_the_responder_use_the_same_pointer() -> None:
    from examples.shop.colors import COLORS, LIVE, upstream

    (service,) = yaml.safe_load((STACK / "responder.yml").read_text())["services"]
    pointer = service["rollback"]["pointer"]
    assert pointer["nginx"] == str(LIVE)
    assert pointer["servers"] == {color: upstream(color).replace("$", "$$") for color in COLORS}


def test_prometheus_and_alertmanager_accept_their_configuration(tmp_path: Path) -> None:
    need("promtool", "amtool")
    (tmp_path / "rules").symlink_to(ROOT / "alert_rules")
    text = (STACK / "prometheus.yml").read_text().replace("/run/secrets/prometheus_token", "/dev/null")
    (tmp_path / "prometheus.yml").write_text(text)
    for argv in (
        ["promtool", "check", "config", str(tmp_path / "prometheus.yml")],
        ["amtool", "check-config", str(STACK / "alertmanager.yml")],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
