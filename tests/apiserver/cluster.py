"""The API server: storage, versions, validation and answers. Its controllers are in `controllers.py`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from aiohttp import web

from tests.apiserver import controllers
from tests.apiserver.answers import (
    Failed,
    already_exists,
    conflict,
    details,
    forbidden,
    no_such_resource,
    not_found,
    unpatchable,
)  # fmt: skip
from tests.apiserver.defaults import default
from tests.apiserver.patches import Rejected, copy, json_patch, merge_patch, strategic_merge
from tests.apiserver.selectors import check_selectors, selected
from tests.apiserver.validation import HIDDEN, WORKLOADS, decode, validate

Object = dict[str, Any]
Key = tuple[str, str]  # namespace, name

KINDS = {
    "pods": "Pod", "services": "Service", "configmaps": "ConfigMap", "secrets": "Secret", "nodes": "Node",
    "serviceaccounts": "ServiceAccount", "persistentvolumeclaims": "PersistentVolumeClaim", "events": "Event",
    "apps/deployments": "Deployment", "apps/replicasets": "ReplicaSet", "apps/statefulsets": "StatefulSet",
    "apps/daemonsets": "DaemonSet", "apps/controllerrevisions": "ControllerRevision",
    "discovery.k8s.io/endpointslices": "EndpointSlice",
    "autoscaling/horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "argoproj.io/applications": "Application", "helm.toolkit.fluxcd.io/helmreleases": "HelmRelease",
    "flagger.app/canaries": "Canary", "argoproj.io/rollouts": "Rollout", "keda.sh/scaledobjects": "ScaledObject",
}  # fmt: skip
VERSIONS = {
    "": "v1", "apps": "apps/v1", "discovery.k8s.io": "discovery.k8s.io/v1", "autoscaling": "autoscaling/v2",
    "argoproj.io": "argoproj.io/v1alpha1", "helm.toolkit.fluxcd.io": "helm.toolkit.fluxcd.io/v2",
    "flagger.app": "flagger.app/v1beta1", "keda.sh": "keda.sh/v1alpha1",
}  # fmt: skip
SEED = int(os.environ.get("CLUSTER_SEED", "0"))
"""Of the lags; another one runs the same tests in another order of events."""
_TEMPLATE = "deprecated.daemonset.template.generation"
_EPOCH = datetime(2026, 11, 24, tzinfo=UTC)
"""The time at 0 of a cluster's clock."""
BUILT_IN = ("", "apps", "discovery.k8s.io", "autoscaling")
_COUNTED = (*WORKLOADS, "ReplicaSet", "Pod", "EndpointSlice")
"""Built-in kinds with a `generation`."""
_OLDEST = 1000
"""The oldest version that a watch can start from."""
_RESOURCES = {kind: resource for resource, kind in KINDS.items()}


@dataclass(frozen=True)
class Image:
    """The behavior of an image's containers."""

    digest: str = ""
    starts: str = "ready"  # ready, pull_fails, crashes, never_ready
    ready_after: float = 0.0


@cache
def _digest(reference: str) -> str:
    return reference.partition("@")[2] or f"sha256:{hashlib.sha256(reference.encode()).hexdigest()}"


class Cluster:
    """Objects by kind, namespace and name; each request lets the controllers catch up."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, token: str = "", seed: int = SEED) -> None:
        self.clock, self.token = clock, token
        self._random = random.Random(seed)  # of the controllers' lags
        self.lags = True
        self.noticed: dict[str, Any] = {}  # by UID: the state that its controller has seen
        self.due: dict[str, float] = {}  # by UID: when its controller sees the new state
        self.objects: dict[str, dict[Key, Object]] = {resource: {} for resource in KINDS}  # by group/plural
        self.images: dict[str, Image] = {}
        self.logs: dict[tuple[str, str, str], list[tuple[str, str]]] = {}  # namespace, pod, container: time and line
        self.previous_logs: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        self.requests: list[tuple[str, str]] = []
        self.history: list[tuple[int, str, Object]] | None = None  # version and event; kept while it is served
        self.user = "system:serviceaccount:shop:responder"
        self.forbidden: set[tuple[str, str]] = set()
        self.installed: set[str] = set()  # API groups of custom resources; storing an object installs its group
        self.controllers = True  # False: they lag
        self.quota: int | None = None  # maximum number of pods in a namespace
        self.version = _OLDEST
        self._uid = 0
        self._at_rest: tuple[Any, ...] = ()  # the input of the controllers when they were last idle
        self.manager = "tests"  # the field manager of writes
        self.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})

    # --- for the controllers and for tests ---

    def all(self, kind: str, namespace: str | None = None) -> list[Object]:
        found = self.objects[_RESOURCES[kind]]
        return [
            item for (object_namespace, _), item in found.items() if namespace is None or object_namespace == namespace
        ]

    def get(self, kind: str, namespace: str, name: str) -> Object:
        return self.objects[_RESOURCES[kind]][namespace, name]

    def put(self, manifest: Object, *, before: Object | None = None) -> Object:
        """Stores a new object or a new state with its own version, without a copy."""
        kind, meta = manifest["kind"], manifest["metadata"]
        if before is None:
            self._uid += 1
            meta.setdefault("uid", f"uid-{self._uid}")
            meta.setdefault("creationTimestamp", "2026-11-24T00:00:00Z")
            if kind in _COUNTED or _RESOURCES[kind].rpartition("/")[0] not in BUILT_IN:
                meta["generation"] = 1
        elif "generation" not in before["metadata"]:
            pass
        elif manifest.get("spec") != before.get("spec") and kind != "Pod":  # a binding does not count
            meta["generation"] = before["metadata"].get("generation", 1) + 1
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        self.installed.add(_RESOURCES[kind].rpartition("/")[0])
        self.objects[_RESOURCES[kind]][meta.get("namespace", ""), meta["name"]] = manifest
        self._remember("ADDED" if before is None else "MODIFIED", manifest)
        return manifest

    def _remember(self, how: str, found: Object) -> None:
        if self.history is not None:
            self.history.append((self.version, how, _shown(found)))

    def drop(self, found: Object) -> None:
        """Deletes an object and then the objects that it owns."""
        meta = found["metadata"]
        self.version += 1
        self.objects[_RESOURCES[found["kind"]]].pop((meta.get("namespace", ""), meta["name"]), None)
        self._remember("DELETED", {**found, "metadata": {**meta, "resourceVersion": str(self.version)}})
        for dependent in [dependent for kind in self.objects.values() for dependent in kind.values()]:
            if any(ref["uid"] == meta["uid"] for ref in dependent["metadata"].get("ownerReferences", ())):
                self.drop(dependent)

    def apply(self, manifest: Object) -> Object:
        """`kubectl apply` of a whole manifest, for tests."""
        manifest = copy(manifest)
        meta = manifest["metadata"]
        resource, namespace = _RESOURCES[manifest["kind"]], meta.get("namespace", "")
        self.installed.add(resource.rpartition("/")[0])
        before = self.objects[resource].get((namespace, meta["name"]))
        if before is None:
            status, answer = self.handle("POST", self.path(resource, namespace), body=manifest)
        else:
            status, answer = self.handle(
                "PATCH", self.path(resource, namespace, meta["name"]), body=manifest,
                content_type="application/strategic-merge-patch+json",
            )  # fmt: skip
        assert status < 300, answer
        self.step()
        return dict(answer)

    @staticmethod
    def path(resource: str, namespace: str, name: str = "") -> str:
        group, _, plural = resource.rpartition("/")
        return f"{_home(group)}/namespaces/{namespace}/{plural}{'/' + name if name else ''}"

    def step(self) -> None:
        """Runs controllers and kubelet until they are idle, as after some seconds without requests."""
        self.lags, before = False, self.lags
        try:
            self.catch_up()
        finally:
            self.lags = before
            self.noticed.clear()

    def catch_up(self) -> None:
        # Idle controllers do nothing until an object, an image or the time changes: most requests only read.
        if self.controllers and self._at_rest != (self.version, *(seen := self._seen())):
            controllers.run(self)
            self._at_rest = self.version, *seen

    def _seen(self) -> tuple[Any, ...]:
        return self.clock(), self.lags, self.quota, dict(self.images)

    def draw(self, least: float, most: float) -> float:
        return self._random.uniform(least, most)

    def stamp(self) -> str:
        """The time now, in whole seconds."""
        return f"{_EPOCH + timedelta(seconds=int(self.clock())):%Y-%m-%dT%H:%M:%SZ}"

    def image(self, reference: str) -> Image:
        found = self.images.get(reference) or Image()
        return found if found.digest else replace(found, digest=_digest(reference))

    # --- requests ---

    def handle(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        token: str = "",
    ) -> tuple[int, Any]:
        """Status and answer as of a real server: an object, or the text of a log."""
        try:
            if self.token and token != self.token:
                raise Failed(401, "Unauthorized")
            self.catch_up()
            status, answer = self._route(method, path, dict(query or {}), body, content_type)
            answer = answer if isinstance(answer, str) else _shown(answer)
            self.catch_up()
            return status, answer
        except Failed as e:
            return e.code, e.status()

    def _route(self, method: str, path: str, query: dict[str, str], body: Any, content_type: str) -> tuple[int, Any]:
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
            return 201, self._review(body)
        if (found := self._discovery(path)) is not None:
            return 200, found
        verb, target, resource, namespace, name, sub = request_of(method, path)
        if not resource:
            return 404, "404 page not found\n"
        group = resource.rpartition("/")[0]
        self.requests.append((verb, target))
        if (verb, target) in self.forbidden:
            raise forbidden(self.user, verb, target, namespace, name)
        if not self._serves(group):
            return 404, "404 page not found\n"
        if resource not in KINDS or not path.startswith(f"{_home(group)}/"):
            raise no_such_resource()
        if not name:
            return (
                self._list(resource, namespace, query)
                if verb == "list"
                else self._create(resource, namespace, query, body)
            )
        if (namespace, name) not in self.objects[resource]:
            raise not_found(resource, name)
        return self._act(self.objects[resource][namespace, name], sub, method, query, body, content_type)

    def _act(
        self, found: Object, sub: str, method: str, query: dict[str, str], body: Any, content_type: str
    ) -> tuple[int, Any]:
        """One request about an object that exists."""
        if sub == "log":
            return 200, self._log(found, query)
        if sub == "scale":
            return self._scale(found, method, body, content_type)
        match method:
            case "GET":
                return 200, found
            case "DELETE":
                return self._delete(found, body or {}, query)
            case "PUT":
                return 200, self._store(found, body, query, patch=False)
            case _:
                return 200, self._store(found, self._patched(found, body, content_type), query)

    def _list(self, resource: str, namespace: str, query: dict[str, str]) -> tuple[int, Object]:
        kind = KINDS[resource]
        check_selectors(resource, query)
        items = [item for item in self.all(kind, namespace or None) if selected(item, query)]
        try:
            start, most = int(query.get("continue") or 0), int(query.get("limit") or 0) or len(items)
        except ValueError as e:
            raise Failed(400, f"invalid continue token: continue key is not valid: {e}") from None
        left = len(items) - start - most
        more = {"continue": str(start + most), "remainingItemCount": left} if left > 0 else {}
        items = items[start : start + most]
        # A real server omits kind and apiVersion in list items.
        bare = [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in items]
        group = resource.rpartition("/")[0]
        return 200, {
            "kind": f"{kind}List", "apiVersion": VERSIONS[group],
            "metadata": {"resourceVersion": str(self.version), **more}, "items": bare,
        }  # fmt: skip

    def _log(self, pod: Object, query: dict[str, str]) -> str:
        """As from the kubelet: oldest first, complete without `tailLines` and `sinceTime`."""
        meta, spec = pod["metadata"], pod["spec"]
        names = [container["name"] for container in (*spec.get("initContainers", ()), *spec["containers"])]
        name = query.get("container") or (names[0] if len(names) == 1 else "")
        if not name:
            choices = f"choose one of: [{' '.join(names)}]"
            raise Failed(400, f"a container name must be specified for pod {meta['name']}, {choices}")
        if name not in names:
            raise Failed(400, f"container {name} is not valid for pod {meta['name']}")
        kept, key = self.logs, (meta["namespace"], meta["name"], name)
        if query.get("previous") == "true":
            kept = self.previous_logs
            if key not in kept:
                raise Failed(400, f'previous terminated container "{name}" in pod "{meta["name"]}" not found')
        lines = [(at, line) for at, line in kept.get(key, ()) if at >= query.get("sinceTime", "")]
        lines = lines[-int(query["tailLines"]) :] if "tailLines" in query else lines
        stamp = query.get("timestamps") == "true"
        return "".join(f"{at} {line}\n" if stamp else f"{line}\n" for at, line in lines)

    def _create(self, resource: str, namespace: str, query: dict[str, str], body: Object) -> tuple[int, Object]:
        made = copy(body)
        meta, kind, group = made["metadata"], KINDS[resource], resource.rpartition("/")[0]
        if made.setdefault("kind", kind) != kind:
            why = f"converting (v1.{made['kind']}) to ({group or 'core'}.{kind}): unknown conversion"
            raise Failed(400, f'{made["kind"]} in version "v1" cannot be handled as a {kind}: {why}')
        if meta.setdefault("namespace", namespace) != namespace:
            message = "the namespace of the provided object does not match the namespace sent on the request"
            raise Failed(400, message)
        decode(made, strict=query.get("fieldValidation") == "Strict")
        default(made)
        if kind == "DaemonSet":
            meta["annotations"] = {**(meta.get("annotations") or {}), _TEMPLATE: "1"}
        validate(made, None, group)
        if (namespace, meta["name"]) in self.objects[resource]:
            raise already_exists(resource, meta["name"])
        if query.get("dryRun") == "All":
            return 201, self._as_if_stored(made)
        self._tell_managers(made, {})
        return 201, self.put(made)

    def _patched(self, found: Object, body: Any, content_type: str) -> Object:
        try:
            match content_type:
                case "application/json-patch+json":
                    return dict(json_patch(found, body))
                case "application/merge-patch+json":
                    return dict(merge_patch(found, body))
                case "application/strategic-merge-patch+json":
                    return dict(strategic_merge(found, body))
        except Rejected:
            raise unpatchable() from None
        raise Failed(415, "415: Unsupported Media Type", details={})

    def _store(self, before: Object, after: Object, query: dict[str, str], *, patch: bool = True) -> Object:
        kind = before["kind"]
        resource, after = _RESOURCES[kind], copy({**before, **after})
        meta, was = after["metadata"], before["metadata"]
        decode(after, strict=query.get("fieldValidation") == "Strict", patch=patch)
        if meta.get("name") != was["name"]:
            message = f"the name of the object ({meta.get('name')}) does not match the name on the URL ({was['name']})"
            raise Failed(400, message)
        if meta.get("resourceVersion") not in (None, "", was["resourceVersion"]):
            raise conflict(resource, was["name"])
        kept = ("generation", "creationTimestamp", "managedFields", "ownerReferences" if not patch else "generation")
        meta |= {"uid": meta.get("uid") or was["uid"], **{k: was[k] for k in kept if k in was}}
        meta["resourceVersion"] = was["resourceVersion"]
        after["status"] = before.get("status", {})
        default(after)
        if kind == "DaemonSet" and after["spec"]["template"] != before["spec"]["template"]:
            meta["annotations"] = {**(meta.get("annotations") or {}), _TEMPLATE: str(was["generation"] + 1)}
        validate(after, before, resource.rpartition("/")[0])
        if "status" not in before and not after["status"]:
            del after["status"]
        if after == before:
            return before
        if query.get("dryRun") == "All":
            if after.get("spec") != before.get("spec") and "generation" in was:
                meta["generation"] = was["generation"] + 1
            return after
        self._tell_managers(after, before)
        return self.put(after, before=before)

    def _as_if_stored(self, made: Object) -> Object:
        meta = {"uid": "uid-0", "creationTimestamp": self.stamp(), **made["metadata"]}
        return {**made, "metadata": {**meta, **({"generation": 1} if made["kind"] in _COUNTED else {})}}

    def _tell_managers(self, after: Object, before: Object) -> None:
        """`managedFields`: the last writer of each field of the spec or of the data."""
        if after["kind"] not in (*WORKLOADS, "Service", "Application", "HelmRelease", "ConfigMap", "Secret"):
            return
        part = "data" if after["kind"] in ("ConfigMap", "Secret") else "spec"
        changed = [k for k, v in after.get(part, {}).items() if before.get(part, {}).get(k) != v]
        if not changed:
            return
        entry = {
            "manager": self.manager, "operation": "Update", "time": f"{self.stamp()[:-1]}.{self.version:09d}Z",
            "fieldsV1": {f"f:{part}": {f"f:{key}": {} for key in changed}},
        }  # fmt: skip
        after["metadata"].setdefault("managedFields", []).append(entry)

    def _delete(self, found: Object, options: Object, query: dict[str, str]) -> tuple[int, Object]:
        kind, meta = found["kind"], found["metadata"]
        resource, wanted = _RESOURCES[kind], options.get("preconditions", {}).get("uid")
        if wanted and wanted != meta["uid"]:
            start = f'Operation cannot be fulfilled on {kind} "{meta["name"]}"'
            why = f"the UID in the precondition ({wanted}) does not match the UID in record ({meta['uid']})"
            end = "The object might have been deleted and then recreated"
            raise Failed(409, f"{start}: {why}. {end}", details={"name": meta["name"], "kind": kind})
        if "All" not in (query.get("dryRun"), *options.get("dryRun", ())):
            self.drop(found)
        if kind == "Pod":
            seconds = options.get("gracePeriodSeconds", found["spec"].get("terminationGracePeriodSeconds", 30))
            ending = {"deletionTimestamp": self.stamp(), "deletionGracePeriodSeconds": seconds}
            return 200, {**found, "metadata": {**meta, **ending, "generation": meta["generation"] + 1}}
        if kind in ("Service", "PersistentVolumeClaim", "ServiceAccount"):
            return 200, found
        more = details(resource, meta["name"], uid=meta["uid"])
        return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": more}

    def _scale(self, found: Object, method: str, body: Any, content_type: str) -> tuple[int, Object]:
        kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if method != "GET":
            scale = {"spec": {"replicas": found["spec"]["replicas"]}}
            scale = self._patched(scale, body, content_type) if method == "PATCH" else body
            replicas = scale["spec"]["replicas"]
            found = self._store(found, {**found, "spec": {**found["spec"], "replicas": replicas}}, {})
        meta = {k: found["metadata"][k] for k in kept}
        labels = found["spec"]["selector"].get("matchLabels") or {}
        return 200, {
            "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta,
            "spec": {"replicas": found["spec"]["replicas"]},
            "status": {
                "replicas": found.get("status", {}).get("replicas", 0),
                "selector": ",".join(f"{k}={v}" for k, v in labels.items()),
            },
        }  # fmt: skip

    def _review(self, body: Object) -> Object:
        attributes = body["spec"]["resourceAttributes"]
        resource = f"{attributes.get('group', '')}/{attributes['resource']}".lstrip("/")
        self.requests.append(("create", "authorization.k8s.io/selfsubjectaccessreviews"))
        return {"metadata": {}, **body, "status": {"allowed": (attributes["verb"], resource) not in self.forbidden}}

    def _serves(self, group: str) -> bool:
        return group in BUILT_IN or (group in VERSIONS and group in self.installed)

    def _discovery(self, path: str) -> Object | None:
        """Discovery, for clients such as kubectl."""
        if path == "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        served = {v: g for g, v in VERSIONS.items() if self._serves(g)}
        if path == "/apis":
            versions = ({"groupVersion": v, "version": v.partition("/")[2]} for v, g in served.items() if g)
            groups = [
                {"name": v["groupVersion"].partition("/")[0], "versions": [v], "preferredVersion": v} for v in versions
            ]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        home = path.removeprefix("/apis/") if path.startswith("/apis/") else path.removeprefix("/api/")
        if home not in served:
            return None
        verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
        resources = [
            {
                "name": r.rpartition("/")[2],
                "singularName": kind.lower(),
                "namespaced": kind != "Node",
                "kind": kind,
                "verbs": verbs,
            }
            for r, kind in KINDS.items()
            if r.rpartition("/")[0] == served[home]
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": home, "resources": resources}

    # --- over HTTP ---

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[str]:
        """Serves it on a free port."""

        async def answer(request: web.Request) -> web.StreamResponse:
            if request.query.get("watch") in ("1", "true"):
                return await self._watch(request)
            text = await request.text()
            status, payload = self.handle(
                request.method, request.path, dict(request.query), json.loads(text) if text else None,
                request.content_type, request.headers.get("Authorization", "").removeprefix("Bearer "),
            )  # fmt: skip
            return _response(status, payload)

        self.history = self.history or [
            (_version(o), "ADDED", _shown(o)) for kind in self.objects.values() for o in kind.values()
        ]
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        """ADDED, MODIFIED and DELETED, in order, for what has changed since `resourceVersion`."""
        query = {k: v for k, v in request.query.items() if k in ("labelSelector", "fieldSelector")}
        since, token = int(request.query.get("resourceVersion") or 0), request.headers.get("Authorization", "")
        loop = asyncio.get_running_loop()
        until = loop.time() + float(request.query.get("timeoutSeconds") or 60)
        status, listing = self.handle("GET", request.path, query, token=token.removeprefix("Bearer "))
        if status != 200:
            return _response(status, listing)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        kind, namespace = listing["kind"].removesuffix("List"), request.path.split("/namespaces/")[-1].partition("/")[0]
        shown = {"kind": kind, "apiVersion": listing["apiVersion"]}
        assert self.history is not None
        known: set[str] = set()  # UIDs
        if since and since < _OLDEST:
            expired = Failed(410, f"too old resource version: {since} ({_OLDEST})").status()
            await response.write(_event("ERROR", expired))
            await response.write_eof()
            return response
        for item in () if since else sorted(listing["items"], key=_version):
            known.add(item["metadata"]["uid"])
            await response.write(_event("ADDED", {**shown, **item}))
        at = since or int(listing["metadata"]["resourceVersion"])
        for version, how, item in self.history:
            if version <= at and item["kind"] == kind and selected(item, query):
                (known.discard if how == "DELETED" else known.add)(item["metadata"]["uid"])
        seen = sum(version <= at for version, _, _ in self.history)
        while loop.time() < until and request.transport and not request.transport.is_closing():
            self.catch_up()
            for _, how, item in self.history[seen:]:
                seen += 1
                if item["kind"] != kind or item["metadata"].get("namespace", namespace) != namespace:
                    continue
                fits = how != "DELETED" and selected(item, query)
                uid = item["metadata"]["uid"]
                if fits or uid in known:  # an object that no longer matches is deleted for the watch
                    now = ("MODIFIED" if uid in known else "ADDED") if fits else "DELETED"
                    await response.write(_event(now, item))
                    (known.add if fits else known.discard)(uid)
            await asyncio.sleep(0.005)
        with contextlib.suppress(ConnectionError):  # the watch was closed
            await response.write_eof()
        return response

    def kubeconfig(self, url: str) -> Object:
        """A kubeconfig for the server."""
        return {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {"token": self.token or "none"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }  # fmt: skip


def _version(found: Object) -> int:
    return int(found["metadata"]["resourceVersion"])


def request_of(method: str, path: str) -> tuple[str, str, str, str, str, str]:
    """Verb, target (resource, with `/log`), resource with its group, namespace, name and subresource."""
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else ((*parts, "")[1], parts[3:])
    namespace, rest = (rest[1], rest[2:]) if rest[:1] == ["namespaces"] and len(rest) > 2 else ("", rest)
    resource = f"{group}/{rest[0]}".lstrip("/") if rest else ""
    name, sub = [*rest[1:], "", ""][:2]
    verb = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}.get(method)
    verb = verb or ("get" if name else "list")
    return verb, f"{resource}/{sub}" if sub == "log" else resource, resource, namespace, name, sub


def _response(status: int, answer: Any) -> web.Response:
    if isinstance(answer, str):
        return web.Response(text=answer, status=status)
    return web.json_response(answer, status=status)


def _event(how: str, item: Object) -> bytes:
    return json.dumps({"type": how, "object": item}).encode() + b"\n"


def _home(group: str) -> str:
    return f"/apis/{VERSIONS[group]}" if group else "/api/v1"


def _shown(answer: Object) -> Object:
    """A copy without the internal fields of the stand-in."""
    answer = copy(answer)
    for item in (answer, *answer.get("items", ())):
        for key in HIDDEN:
            item.pop(key, None)
    return answer
