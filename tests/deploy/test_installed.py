"""What the chart installs works: both programs start, and Prometheus scrapes what the rules need."""

from __future__ import annotations

import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.deploy.rendering import Manifest, charted, of
from tests.parts import Process, free_port, need, prometheus

VALUES: Manifest = {
    "monitoring": {"enabled": True, "interval": "1s"},
    "responder": {
        "config": {
            "services": [
                {
                    "name": "backend",
                    "environment": "production",
                    "rollback": {"strategy": "rolling", "kubernetes": {"namespace": "shop", "deployment": "backend"}},
                    "health_checks": [{"pods": {"namespace": "shop", "labels": {"app": "backend"}}}],
                }
            ]
        }
    },
    "exporters": {
        "config": {
            "checks": [
                {
                    "id": "health",
                    "service": "backend",
                    "environment": "production",
                    "type": "http_response",
                    "url": "http://exporters.rollback-responder.svc:9469/-/ready",
                    "interval": "1s",
                }
            ]
        }
    },
}
SERIES = (
    'responder_deployment_timestamp_seconds{job="responder", service="backend", environment="production"}',
    'up{job="responder"} == 1',
    'up{job="exporters", environment="production", service=""} == 1',
    'probe_success{job="probes", service="backend", environment="production", check_id="health"} == 1',
)


def here(text: str, ports: dict[str, int]) -> str:
    """The text with the addresses of this machine in the place of those in the cluster."""
    for name, cluster_port in (("responder", 9095), ("exporters", 9469)):
        text = re.sub(rf"({name}\.rollback-responder\.svc|0\.0\.0\.0):{cluster_port}", f"127.0.0.1:{ports[name]}", text)
    return text


async def start(name: str, manifests: list[Manifest], ports: dict[str, int], directory: Path, env: Manifest) -> Process:
    """The program as its Deployment starts it, with the configuration of its ConfigMap."""
    (config,) = [m["data"][f"{name}.yml"] for m in of("ConfigMap", manifests) if m["metadata"]["name"] == name]
    (container,) = [
        m["spec"]["template"]["spec"]["containers"][0]
        for m in of("Deployment", manifests)
        if m["metadata"]["name"] == name
    ]
    file = directory / f"{name}.yml"
    file.write_text(here(config, ports).replace("/var/lib/responder", str(directory)))
    program, *args = (str(file) if arg.startswith("/etc/") else arg for arg in container["args"])
    ready = f"http://127.0.0.1:{ports[name]}{container['readinessProbe']['httpGet']['path']}"
    return await Process.start(
        [sys.executable, "-m", program, *args], log=directory / f"{name}.log", ready=ready, env=env
    )


def relabelings(endpoint: Manifest) -> list[Manifest]:
    names = {"targetLabel": "target_label"}
    return [{names.get(key, key): value for key, value in rule.items()} for rule in endpoint["relabelings"]]


def scrape_config(manifest: Manifest, ports: dict[str, int], secrets: dict[str, str]) -> Manifest:
    """As the Prometheus Operator writes it: labels of the target, and after them `relabelings`."""
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    if manifest["kind"] == "ScrapeConfig":
        (found,) = spec["httpSDConfigs"]
        discovered = [{"url": here(found["url"], ports), "refresh_interval": found["refreshInterval"]}]
        return {"job_name": f"scrapeConfig/{name}", "http_sd_configs": discovered, "relabel_configs": relabelings(spec)}
    (endpoint,) = spec["endpoints"]
    labels = {"job": name, "namespace": "rollback-responder", "service": name, "pod": f"{name}-0", "endpoint": "http"}
    config = {
        "job_name": f"serviceMonitor/{name}",
        "scrape_interval": endpoint["interval"],
        "metrics_path": endpoint["path"],
        "static_configs": [{"targets": [f"127.0.0.1:{ports[name]}"], "labels": labels}],
        "relabel_configs": relabelings(endpoint),
    }
    if "authorization" in endpoint:
        config["authorization"] = {"credentials": secrets[endpoint["authorization"]["credentials"]["key"]]}
    return config


async def report(port: int, token: str) -> None:
    body = {"service": "backend", "environment": "production", "version": "1.0"}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.post(f"http://127.0.0.1:{port}/api/v1/deployments", json=body) as answer,
    ):
        assert answer.status < 300, await answer.text()


async def test_the_programs_run_and_are_scraped(tmp_path: Path) -> None:
    need("prometheus")
    manifests = charted(VALUES)
    ports = {"responder": free_port(), "exporters": free_port()}
    secrets: dict[str, Any] = {
        name: f"{name} 0123456789abcdef"
        for manifest in of("ConfigMap", manifests)
        for name in re.findall(r"\$\{(\w+)\}", str(manifest["data"]))
    }
    monitors = [*of("ServiceMonitor", manifests), *of("ScrapeConfig", manifests)]
    config = {"scrape_configs": [scrape_config(monitor, ports, secrets) for monitor in monitors]}
    async with AsyncExitStack() as stack:
        for name in ports:
            process = await start(name, manifests, ports, tmp_path, secrets)
            stack.push_async_callback(process.terminate)
        await report(ports["responder"], secrets["DEPLOY_TOKEN"])
        server = await stack.enter_async_context(prometheus(tmp_path, yaml.safe_dump(config)))
        for series in SERIES:
            await server.until(series)
