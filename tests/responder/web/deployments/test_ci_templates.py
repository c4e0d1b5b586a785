"""The templates of deploy/ci for Helm and Argo CD report a deployment to a running responder, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.rendering import helm
from tests.responder.web.conftest import ResponderServer
from tests.responder.web.deployments.test_ci import CI, TOKEN, VERSION, reported, run, url_of


def rendered(directory: Path, template: str, values: dict[str, Any], **chart: Any) -> str:
    """The template, rendered by Helm: templates of Go with the functions of sprig."""
    (directory / "templates").mkdir(parents=True, exist_ok=True)
    head = {"apiVersion": "v2", "name": "backend", "version": "0.1.0", **chart}
    (directory / "Chart.yaml").write_text(yaml.safe_dump(head))
    (directory / "templates" / "it.yaml").write_text(template)
    with helm().Chart.load(directory) as loaded:
        (text,) = loaded.render(values, name="shop", namespace="production").values()
    return str(text)


async def test_helm_hook(guarded_responder: ResponderServer, tmp_path: Path) -> None:
    template = (CI / "helm" / "report-deployment.yaml").read_text()
    values = {"responder": {"url": url_of(guarded_responder) + "/", "service": "backend", "environment": "production"}}
    job = yaml.safe_load(rendered(tmp_path / "chart", template, values, appVersion=VERSION))
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade,post-rollback"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    (tmp_path / "token").write_text(TOKEN)
    argv = [*container["command"], *(text.replace(mount["mountPath"], str(tmp_path)) for text in container["args"])]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    for _ in range(2):
        code, output = await run(argv, tmp_path, **environment)
        assert code == 0, output
    (found,) = await reported(guarded_responder)
    assert (found["version"], found["provenance"]) == (VERSION, "Helm release production/shop, revision 1")
    (tmp_path / "token").write_text("wrong")
    code, output = await run(argv, tmp_path, **environment)
    assert (code, "not reported" in output) == (0, True), "it must not fail the release"


def application(images: list[str], finished: str = "2026-11-23T09:00:00Z", **annotations: str) -> dict[str, Any]:
    """An Application, as far as the template reads it."""
    metadata: dict[str, Any] = {"name": "backend", "namespace": "argocd"}
    if annotations:
        metadata["annotations"] = {f"rollback-responder/{name}": value for name, value in annotations.items()}
    status = {"operationState": {"phase": "Succeeded", "finishedAt": finished}, "summary": {"images": images}}
    return {"metadata": metadata, "status": status}


SHOP = ["docker.io/library/nginx:1.27", "registry:5000/shop/backend:2.5@sha256:" + "ab" * 32]


@pytest.mark.parametrize(
    ("images", "annotations", "version"),
    [
        (["registry:5000/shop/backend:2.4"], {}, "2.4"),
        (SHOP, {}, "1.27"),
        (SHOP, {"image": "registry:5000/shop/backend", "environment": "production", "service": "backend"}, "2.5"),
        (["shop@sha256:" + "cd" * 32], {"environment": "production"}, "cd" * 32),
    ],
)
async def test_argo_cd_notification(
    guarded_responder: ResponderServer, tmp_path: Path, images: list[str], annotations: dict[str, str], version: str
) -> None:
    data = yaml.safe_load((CI / "argocd" / "notifications.yaml").read_text())["data"]
    hook = yaml.safe_load(data["template.responder-deployed"])["webhook"]["responder"]
    service = yaml.safe_load(data["service.webhook.responder"])
    headers = {header["name"]: header["value"].replace("$responder-token", TOKEN) for header in service["headers"]}
    statuses = []
    for minute in range(3):  # a sync of every minute; the first is delivered twice
        app = application(images, f"2026-11-23T09:0{max(minute - 1, 0)}:00Z", **annotations)
        body = rendered(tmp_path / "chart", f"{{{{ with .Values }}}}{hook['body']}{{{{ end }}}}", {"app": app})
        request = guarded_responder.client.request(hook["method"], hook["path"], data=body, headers=headers)
        async with request as response:
            statuses.append(response.status)
    assert statuses == [201, 200, 200]
    (found,) = await reported(guarded_responder)
    assert (found["version"], found["at"].isoformat()) == (version, "2026-11-23T09:00:00+00:00")
