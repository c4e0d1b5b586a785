"""The requests to the API server: validation and answers."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

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
from tests.apiserver.kinds import BUILT_IN, KINDS, RESOURCES, VERSIONS, discovery, home_of, request_of
from tests.apiserver.managed import record
from tests.apiserver.patches import Rejected, copy, json_patch, merge_patch, strategic_merge
from tests.apiserver.selectors import check_selectors, selected
from tests.apiserver.serving import serve
from tests.apiserver.store import COUNTED, Image, Object, Store, shown
from tests.apiserver.validation import decode, validate

__all__ = ["Cluster", "Image", "Object"]

_TEMPLATE = "deprecated.daemonset.template.generation"


class Cluster(Store):
    """A control plane; each request lets the controllers catch up."""

    def apply(self, manifest: Object) -> Object:
        """`kubectl apply` of a whole manifest, for tests."""
        manifest = copy(manifest)
        meta = manifest["metadata"]
        resource, namespace = RESOURCES[manifest["kind"]], meta.get("namespace", "")
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
        return f"{home_of(group)}/namespaces/{namespace}/{plural}{'/' + name if name else ''}"

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
            answer = answer if isinstance(answer, str) else shown(answer)
            self.catch_up()
            return status, answer
        except Failed as e:
            return e.code, e.status()

    def _route(self, method: str, path: str, query: dict[str, str], body: Any, content_type: str) -> tuple[int, Any]:
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
            return 201, self._review(body)
        if (found := discovery(path, {v: g for g, v in VERSIONS.items() if self._serves(g)})) is not None:
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
        if resource not in KINDS or not path.startswith(f"{home_of(group)}/"):
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
        record(made, {}, self.manager, self.stamp())
        if query.get("dryRun") == "All":
            return 201, self._as_if_stored(made)
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

    def _store(
        self, before: Object, after: Object, query: dict[str, str], *, patch: bool = True, subresource: str = ""
    ) -> Object:
        kind = before["kind"]
        resource, after = RESOURCES[kind], copy({**before, **after})
        meta, stored = after["metadata"], before["metadata"]
        decode(after, strict=query.get("fieldValidation") == "Strict", patch=patch)
        if meta.get("name") != stored["name"]:
            message = (
                f"the name of the object ({meta.get('name')}) does not match the name on the URL ({stored['name']})"
            )
            raise Failed(400, message)
        if meta.get("resourceVersion") not in (None, "", stored["resourceVersion"]):
            raise conflict(resource, stored["name"])
        kept = ("generation", "creationTimestamp", "managedFields", "ownerReferences" if not patch else "generation")
        meta |= {"uid": meta.get("uid") or stored["uid"], **{k: stored[k] for k in kept if k in stored}}
        meta["resourceVersion"] = stored["resourceVersion"]
        after["status"] = before.get("status", {})
        default(after)
        if kind == "DaemonSet" and after["spec"]["template"] != before["spec"]["template"]:
            meta["annotations"] = {**(meta.get("annotations") or {}), _TEMPLATE: str(stored["generation"] + 1)}
        validate(after, before, resource.rpartition("/")[0])
        if "status" not in before and not after["status"]:
            del after["status"]
        if after == before:
            return before
        record(after, before, self.manager, self.stamp(), subresource)
        if query.get("dryRun") == "All":
            if after.get("spec") != before.get("spec") and "generation" in stored:
                meta["generation"] = stored["generation"] + 1
            return after
        return self.put(after, before=before)

    def _as_if_stored(self, made: Object) -> Object:
        meta = {"uid": "uid-0", "creationTimestamp": self.stamp(), **made["metadata"]}
        return {**made, "metadata": {**meta, **({"generation": 1} if made["kind"] in COUNTED else {})}}

    def _delete(self, found: Object, options: Object, query: dict[str, str]) -> tuple[int, Object]:
        kind, meta = found["kind"], found["metadata"]
        resource, wanted = RESOURCES[kind], options.get("preconditions", {}).get("uid")
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
            found = self._store(
                found, {**found, "spec": {**found["spec"], "replicas": replicas}}, {}, subresource="scale"
            )
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
        made = {**body, "metadata": {**body.get("metadata", {})}}
        record(made, {}, self.manager, self.stamp())
        return {**made, "status": {"allowed": (attributes["verb"], resource) not in self.forbidden}}

    def _serves(self, group: str) -> bool:
        return group in BUILT_IN or (group in VERSIONS and group in self.installed)

    def up(self) -> AbstractAsyncContextManager[str]:
        """Serves it on a free port."""
        return serve(self)

    def kubeconfig(self, url: str) -> Object:
        """A kubeconfig for the server."""
        return {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {"token": self.token or "none"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }  # fmt: skip
