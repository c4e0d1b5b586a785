"""A small site as built by a bundler: pages that refer to assets by content hash, and a list of all files."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.cdns.amazon import Amazon

FOREVER = "public, max-age=31536000, immutable"
ALWAYS = "no-cache"
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "json": "application/json"}


def site(version: str) -> dict[str, bytes]:
    """The files of a release. The page loads a script and a style, and the script loads a chunk on demand."""
    lazy = f"export const version = {json.dumps(version)};"
    chunk = _hashed("lazy", "js", lazy)
    app = f"""window.script = {json.dumps(version)};
window.lazy = () => import("/{chunk}").then((m) => m.version);"""
    script, style = _hashed("app", "js", app), _hashed("style", "css", f":root {{ --version: '{version}'; }}")
    page = f"""<!doctype html><html data-version="{version}"><head><link rel="stylesheet" href="/{style}">
<script src="/{script}"></script></head><body>shop {version}</body></html>"""
    return {
        "assets/logo.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        script: app.encode(),
        chunk: lazy.encode(),
        style: f":root {{ --version: '{version}'; }}".encode(),
        "index.html": page.encode(),
        "sw.js": f"// {version}".encode(),
        "version.json": json.dumps({"version": version}).encode(),
    }


def _hashed(name: str, kind: str, text: str) -> str:
    return f"assets/{name}.{hashlib.sha256(text.encode()).hexdigest()[:8]}.{kind}"


def manifest(files: dict[str, bytes]) -> bytes:
    entries = {path: {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for path, body in files.items()}
    return json.dumps({"files": entries}).encode()


def headers(path: str) -> dict[str, Any]:
    """In the format of boto3."""
    hashed = path.startswith("assets/") and path.count(".") == 2
    kind = _TYPES.get(path.rpartition(".")[2], "image/svg+xml")
    return {"ContentType": kind, "CacheControl": FOREVER if hashed else ALWAYS}


def released(version: str) -> dict[str, bytes]:
    """All files under `releases/<version>/`."""
    files = site(version)
    return {**files, "manifest.json": manifest(files)}


def stocked(live: str = "2") -> dict[str, tuple[str, bytes]]:
    """Keys of a bucket with three releases, one of them live: the path in the site, and the content."""
    objects = {f"releases/{v}/{path}": (path, body) for v in "123" for path, body in released(v).items()}
    objects |= {f"live/{path}": (path, body) for path, body in site(live).items()}
    return {**objects, "current.json": ("current.json", json.dumps({"version": live}).encode())}


def stock(amazon: Amazon, live: str = "2") -> None:
    """Stores all of it in the bucket `shop`."""
    for key, (path, body) in stocked(live).items():
        metadata = headers(path)
        amazon.s3.put(f"shop/{key}", body, content_type=metadata["ContentType"], cache_control=metadata["CacheControl"])
