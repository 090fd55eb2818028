"""Errors as the Kubernetes API tells them: an HTTP code and a ``Status`` object."""

from __future__ import annotations

from typing import Any

from harness.lab.kube.objects import Obj


class ApiError(Exception):
    """A refusal by the API server; ``status()`` is the body of the answer."""

    def __init__(
        self, code: int, reason: str, message: str, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def status(self) -> Obj:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def _about(resource: str, group: str, name: str) -> tuple[str, dict[str, Any]]:
    qualified = f"{resource}.{group}" if group else resource
    details = {"name": name, "kind": resource}
    if group:
        details["group"] = group
    return qualified, details


def not_found(resource: str, group: str, name: str) -> ApiError:
    qualified, details = _about(resource, group, name)
    return ApiError(404, "NotFound", f'{qualified} "{name}" not found', details)


def already_exists(resource: str, group: str, name: str) -> ApiError:
    qualified, details = _about(resource, group, name)
    return ApiError(409, "AlreadyExists", f'{qualified} "{name}" already exists', details)


def conflict(resource: str, group: str, name: str, why: str) -> ApiError:
    qualified, details = _about(resource, group, name)
    message = f'Operation cannot be fulfilled on {qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, details)


def modified(resource: str, group: str, name: str) -> ApiError:
    """The conflict of optimistic concurrency."""
    why = (
        "the object has been modified; please apply your changes to the latest version "
        "and try again"
    )
    return conflict(resource, group, name, why)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def gone(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def invalid(kind: str, group: str, name: str, causes: list[tuple[str, str]]) -> ApiError:
    """``causes`` are (field path, message)."""
    text = ", ".join(f"{field}: {message}" for field, message in causes)
    if len(causes) > 1:
        text = f"[{text}]"
    details = {
        "name": name,
        "kind": kind,
        "group": group,
        "causes": [
            {"reason": "FieldValueInvalid", "field": field, "message": message}
            for field, message in causes
        ],
    }
    qualified = f"{kind}.{group}" if group else kind
    return ApiError(422, "Invalid", f'{qualified} "{name}" is invalid: {text}', details)
