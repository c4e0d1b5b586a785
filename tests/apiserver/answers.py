"""Failures as the API server answers them: a Status object with its details."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
           415: "UnsupportedMediaType", 422: "Invalid"}  # fmt: skip


class Failed(Exception):
    """A Status answer with a failure."""

    def __init__(self, code: int, message: str, reason: str = "", details: Object | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.reason, self.details = code, message, reason or REASONS[code], details

    def status(self) -> Object:
        return {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
            "reason": self.reason, "code": self.code, **({} if self.details is None else {"details": self.details}),
        }  # fmt: skip


def qualified(resource: str) -> str:
    """`deployments.apps`, from `apps/deployments`."""
    group, _, plural = resource.rpartition("/")
    return f"{plural}.{group}" if group else plural


def details(resource: str, name: str = "", **more: Any) -> Object:
    group, _, plural = resource.rpartition("/")
    found = {"name": name, "group": group, "kind": plural, **more}
    return {key: value for key, value in found.items() if value}


def not_found(resource: str, name: str) -> Failed:
    return Failed(404, f'{qualified(resource)} "{name}" not found', details=details(resource, name))


def no_such_resource() -> Failed:
    return Failed(404, "the server could not find the requested resource", details={})


def already_exists(resource: str, name: str) -> Failed:
    message = f'{qualified(resource)} "{name}" already exists'
    return Failed(409, message, "AlreadyExists", details(resource, name))


def conflict(resource: str, name: str) -> Failed:
    message = "the object has been modified; please apply your changes to the latest version and try again"
    start = f'Operation cannot be fulfilled on {qualified(resource)} "{name}"'
    return Failed(409, f"{start}: {message}", details=details(resource, name))


def forbidden(user: str, verb: str, target: str, namespace: str, name: str) -> Failed:
    """`target`: group, resource and subresource, as in `pods/log`."""
    target, _, sub = target.removesuffix("/log"), "", "/log" if target.endswith("/log") else ""
    group, _, plural = target.rpartition("/")
    what = f'{qualified(target)} "{name}"' if name else qualified(target)
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    message = f'{what} is forbidden: User "{user}" cannot {verb} resource "{plural}{sub}" in API group "{group}"{where}'
    return Failed(403, message, details=details(target, name))


def unpatchable() -> Failed:
    return Failed(422, "the server rejected our request due to an error in our request", details={})


def invalid_patch(why: str) -> Failed:
    """The real message quotes the patched object."""
    message = f'Invalid value: "{{}}": {why}'
    cause = {"reason": "FieldValueInvalid", "message": message, "field": "patch"}
    return Failed(422, f' "" is invalid: patch: {message}', details={"causes": [cause]})


_CAUSES = {
    "Required value": "FieldValueRequired", "Invalid value": "FieldValueInvalid", "Forbidden": "FieldValueForbidden",
    "Unsupported value": "FieldValueNotSupported",
}  # fmt: skip


def invalid(kind: str, group: str, name: str, found: list[tuple[str, str]]) -> Failed:
    """`found`: fields and what is wrong with them."""
    causes = [
        {"reason": _CAUSES[message.partition(":")[0]], "message": message, "field": field} for field, message in found
    ]
    texts = list(dict.fromkeys(f"{field}: {message}" for field, message in found))
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    of = {"name": name, "group": group, "kind": kind}
    start = f"{kind}.{group}" if group else kind
    found_details = {**{k: v for k, v in of.items() if v}, "causes": causes}
    return Failed(422, f'{start} "{name}" is invalid: {text}', details=found_details)
