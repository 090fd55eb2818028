"""The auth service: issues signed tokens with an expiry, and verifies them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re

from harness.clock import Clock
from harness.lab.services.asgi import App, Handler, HttpError, Request, Response, json_response
from harness.lab.services.pod import Pod

#: The lab's fixed dummy credentials: any user name, this password.
PASSWORD = "lab"
_SECRET = b"lab"
TOKEN_LIFE_S = 3600
_USER = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class Tokens:
    """Signs and verifies ``base64url({"sub", "exp"}).base64url(HMAC-SHA256)``."""

    def __init__(self, secret: bytes, clock: Clock, life_s: int = TOKEN_LIFE_S) -> None:
        self._secret = secret
        self._clock = clock
        self.life_s = life_s

    def issue(self, user: str) -> str:
        claims = {"sub": user, "exp": int(self._clock.wall_s()) + self.life_s}
        payload = _encode(json.dumps(claims, separators=(",", ":")).encode())
        return f"{payload}.{self._signature(payload)}"

    def verify(self, token: str) -> tuple[str, int]:
        """User and expiry (seconds since the epoch). Raises ValueError saying what is wrong."""
        payload, _, signature = token.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(payload).encode()):
            raise ValueError("the token's signature is wrong")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if claims["exp"] <= self._clock.wall_s():
            raise ValueError("the token has expired")
        return claims["sub"], claims["exp"]

    def _signature(self, payload: str) -> str:
        return _encode(hmac.new(self._secret, payload.encode(), hashlib.sha256).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Auth(App):
    name = "auth"

    def __init__(self, pod: Pod) -> None:
        super().__init__(pod.metrics, pod.served_by())
        self._tokens = Tokens(_SECRET, pod.clock)

    def route(self, request: Request) -> tuple[str, Handler]:
        if request.method == "POST" and request.path == "/v1/token":
            return "token", self._issue
        if request.method == "POST" and request.path == "/verify":
            return "verify", self._verify
        return super().route(request)

    async def _issue(self, request: Request) -> Response:
        asked = await request.json()
        user, password = asked.get("user"), asked.get("password")
        if not isinstance(user, str) or not _USER.fullmatch(user) or password != PASSWORD:
            raise HttpError(401, "bad_credentials", "user or password is wrong")
        token = self._tokens.issue(user)
        return json_response(200, {"token": token, "expires_in": self._tokens.life_s})

    async def _verify(self, request: Request) -> Response:
        asked = await request.json()
        try:
            user, expiry = self._tokens.verify(str(asked.get("token", "")))
        except ValueError as error:
            raise HttpError(401, "bad_token", str(error)) from error
        return json_response(200, {"user": user, "exp": expiry})
