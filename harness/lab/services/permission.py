"""The permission service: who may do what, by role and by ownership.

Roles follow from the user's name: ``admin`` may do everything, names starting with
``viewer`` may only read, everybody else may read, list and create, and may replace
or delete what is their own.
"""

from __future__ import annotations

import asyncio
from typing import Any

from harness.lab.services.asgi import App, Handler, HttpError, Request, Response, json_response
from harness.lab.services.database import DatabaseUnavailable
from harness.lab.services.files import from_database
from harness.lab.services.pod import Pod

ROLE_TTL_S = 10.0
OBJECT_TTL_S = 1.0
_OWNER_TTL_S = 2.0
_OWNER_ENTRIES = 10_000
READ_ACTIONS = frozenset({"read", "list"})
ACTIONS = READ_ACTIONS | {"create", "delete"}


def role_of(user: str) -> str:
    """``admin``, ``viewer``, ``editor`` or, without a name, ``anonymous``."""
    if not user:
        return "anonymous"
    if user == "admin":
        return "admin"
    return "viewer" if user.startswith("viewer") else "editor"


def by_role(role: str, action: str) -> bool | None:
    """Whether the role alone decides, and how; None when it depends on who owns the file."""
    if role == "anonymous":
        return False
    if role == "admin" or action in READ_ACTIONS:
        return True
    return False if role == "viewer" else None


class Permission(App):
    name = "permission"

    def __init__(self, pod: Pod) -> None:
        super().__init__(pod.metrics, pod.served_by())
        self._pod = pod
        self._owners: dict[str, tuple[float, str]] = {}

    def route(self, request: Request) -> tuple[str, Handler]:
        if request.method == "GET" and request.path == "/check":
            return "check", self._check
        return super().route(request)

    async def shutdown(self) -> None:
        await self._pod.close()

    async def _check(self, request: Request) -> Response:
        asked = request.query
        user, action = asked.get("user", ""), asked.get("action", "")
        if action not in ACTIONS:
            raise HttpError(400, "bad_request", f"action is one of {', '.join(sorted(ACTIONS))}")
        allow = by_role(role_of(user), action)
        if allow is not None or action == "create":
            # Replacing another user's file is refused by the statement that writes it.
            return _answer(allow is not False, "role", ROLE_TTL_S)
        owner = await self._owner(asked.get("object", ""))
        return _answer(owner in ("", user), "object", OBJECT_TTL_S)

    async def _owner(self, file_id: str) -> str:
        """Owner of the file, "" when there is none."""
        now_s = asyncio.get_running_loop().time()
        known = self._owners.get(file_id)
        if known and known[0] > now_s:
            return known[1]
        sql = "SELECT owner FROM files WHERE id = $1"
        try:
            rows = await self._pod.reader.fetch_confirmed(sql, file_id)
        except DatabaseUnavailable as error:
            raise from_database(error) from error
        owner: str = rows[0]["owner"] if rows else ""
        if owner:
            if len(self._owners) > _OWNER_ENTRIES:
                self._owners.clear()
            self._owners[file_id] = (now_s + _OWNER_TTL_S, owner)
        return owner


def _answer(allow: bool, scope: str, ttl_s: float) -> Response:
    value: dict[str, Any] = {"allow": allow, "scope": scope, "ttl_s": ttl_s}
    return json_response(200, value)
