"""A Prometheus that answers wrongly in one known way, on loopback.

It stands before a truth (a recorded answer, or a real Prometheus that it asks) and passes that on,
except for queries that mention a given name: those it distorts. Used to see whether anything
that asks Prometheus, or judges by what it said, believes it.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit
from urllib.request import ProxyHandler, build_opener

HOST = "127.0.0.1"
#: (path with its query string) → the document a sound Prometheus would send
Truth = Callable[[str], dict[str, Any]]
_HOUR_S = 3600.0
_UPSTREAM_DEADLINE_S = 10.0
_DRIP_S = 0.05


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. ``manner``: ``whole``; ``cut`` (the connection closes half-way); ``drip`` (a
    byte now and then, never all); ``head`` (the same within the headers); ``never``."""

    body: bytes = b""
    status: int = 200
    kind: str = "application/json"
    location: str = ""
    manner: str = "whole"


@dataclass(frozen=True)
class Lie:
    """``tell`` makes the answer from the true document. ``of``: what is wrong. ``values``: a
    well-formed answer of the right type says something wrong. ``samples``: there are none, or none
    that can be used. ``answer``: whatever was asked for, it is not in there."""

    name: str
    what: str
    tell: Callable[[dict[str, Any]], Answer]
    of: Literal["values", "samples", "answer"] = "answer"

    def answer(self, document: dict[str, Any]) -> Answer:
        """What is sent for ``document``: itself, if it lacks the samples that are wrong."""
        nothing_to_distort = "result" not in document["data"] and self.of != "answer"
        return said(document) if nothing_to_distort else self.tell(document)


def said(document: Any) -> Answer:
    """The document as a whole answer."""
    return Answer(json.dumps(document).encode())


def _each(change: Callable[[float, str], tuple[float, str] | None]) -> Callable[..., Answer]:
    """Every sample of the answer changed, or left out."""

    def tell(document: dict[str, Any]) -> Answer:
        lying = copy.deepcopy(document)
        data = lying["data"]
        if data["resultType"] in ("scalar", "string"):
            changed = change(*data["result"])
            data["result"] = list(changed) if changed else data["result"]
            return said(lying)
        for series in data["result"]:
            if "values" in series:
                values = (change(float(t), v) for t, v in series["values"])
                series["values"] = [list(pair) for pair in values if pair is not None]
            else:
                pair = change(float(series["value"][0]), series["value"][1])
                series["value"] = list(pair) if pair else series["value"]
        return said(lying)

    return tell


def _data(**data: Any) -> Callable[..., Answer]:
    """A successful answer with other data."""
    return lambda document: said({"status": "success", "data": data})


def _with(**more: Any) -> Callable[..., Answer]:
    """The true document with more keys on top."""
    return lambda document: said({**document, **more})


def _twice(document: dict[str, Any]) -> Answer:
    lying = copy.deepcopy(document)
    if isinstance(lying["data"]["result"], list) and lying["data"]["resultType"] != "scalar":
        replicas = copy.deepcopy(lying["data"]["result"])
        for series in replicas:
            series["metric"]["replica"] = "b"
        lying["data"]["result"] += replicas
    return said(lying)


def _malformed(document: dict[str, Any]) -> Answer:
    result = [{"metric": {}, "value": ["now"], "values": [["now"]]}]
    return said({"status": "success", "data": {**document["data"], "result": result}})


def _half(document: dict[str, Any]) -> Answer:
    body = json.dumps(document).encode()
    return Answer(body[: len(body) // 2])


def _raw(**answer: Any) -> Callable[..., Answer]:
    return lambda document: Answer(**answer)


LIES: tuple[Lie, ...] = (
    Lie("empty", "no series", lambda d: _data(resultType=d["data"]["resultType"], result=[])(d),
        "samples"),
    Lie("nan", "every value is NaN", _each(lambda t, v: (t, "NaN")), "samples"),
    Lie("infinite", "every value is +Inf", _each(lambda t, v: (t, "+Inf")), "samples"),
    Lie("stale", "samples are an hour old", _each(lambda t, v: (t - _HOUR_S, v)), "values"),
    Lie("future", "samples are an hour ahead", _each(lambda t, v: (t + _HOUR_S, v)), "values"),
    Lie("gappy", "no sample in most of each minute",
        _each(lambda t, v: (t, v) if t % 60 < 7 else None), "values"),
    Lie("resets", "the counters begin anew again and again",
        _each(lambda t, v: (t, str(float(v) % 50))), "values"),
    Lie("frozen", "the counters stand still", _each(lambda t, v: (t, "4711")), "values"),
    Lie("low", "the counters count eight in ten",
        _each(lambda t, v: (t, str(0.8 * float(v)))), "values"),
    Lie("two-series", "a second replica's series are in it too", _twice, "values"),
    Lie("partial", "a warning that a store did not answer", _with(warnings=["one store is away"])),
    Lie("error-with-data", "status error, and data all the same", _with(status="error", error="x")),
    Lie("no-data", "success without data", _raw(body=b'{"status":"success"}')),
    Lie("vector", "a vector where a matrix is due, or the other way round",
        lambda d: _data(resultType="vector" if d["data"]["resultType"] == "matrix" else "matrix",
                        result=d["data"]["result"])(d),
        "samples"),
    Lie("scalar", "a malformed scalar", _data(resultType="scalar", result=[0])),
    Lie("string", "a string", _data(resultType="string", result=[0, "1"])),
    Lie("malformed", "samples that are none", _malformed, "samples"),
    Lie("503", "503, with the right answer as its body",
        lambda d: Answer(json.dumps(d).encode(), status=503)),
    Lie("redirect", "sent elsewhere, where the right answer is",
        _raw(status=302, location="/truth")),
    Lie("html", "a page of HTML with status 200",
        _raw(body=b"<html><body>please log in</body></html>", kind="text/html")),
    Lie("other-json", "JSON of something else", _raw(body=b'{"hello": "world"}')),
    Lie("nothing", "an empty body", _raw()),
    Lie("half", "JSON that ends half-way", _half),
    Lie("cut", "the connection closes half-way",
        lambda d: Answer(json.dumps(d).encode(), manner="cut")),
    Lie("drip", "a byte now and then", lambda d: Answer(json.dumps(d).encode(), manner="drip")),
    Lie("drip-head", "headers that never end", _raw(manner="head")),
    Lie("never", "no answer at all", _raw(manner="never")),
)  # fmt: skip


class Liar:
    """Serves until :meth:`close`. Queries that do not mention ``about`` are answered truly."""

    def __init__(self, lie: Lie, truth: Truth, *, about: str = "") -> None:
        self.asked: list[str] = []
        self._over = threading.Event()
        self._server = ThreadingHTTPServer((HOST, 0), _handler(self, lie, truth, about))
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """End, also whatever is still being dripped."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def over(self, within_s: float) -> bool:
        """Whether it was closed, waiting up to so long for that."""
        return self._over.wait(within_s)


def asking(url: str) -> Truth:
    """The truth as the Prometheus at ``url`` tells it."""

    opener = build_opener(ProxyHandler({}))

    def truth(path: str) -> dict[str, Any]:
        with opener.open(f"{url}{path}", timeout=_UPSTREAM_DEADLINE_S) as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    return truth


def _handler(liar: Liar, lie: Lie, truth: Truth, about: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):  # the asker has hung up
                self._answer()

        def _answer(self) -> None:
            liar.asked.append(self.path)
            query = parse_qs(urlsplit(self.path).query).get("query", [""])[0]
            document = truth(self.path)
            lying = about in query and not self.path.startswith("/truth")
            self._send(lie.answer(document) if lying else said(document))

        def _send(self, answer: Answer) -> None:
            if answer.manner == "never":
                liar.over(60.0)
                return
            if answer.manner == "head":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                self._drip(b"x" * 1200)
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            if answer.location:
                self.send_header("Location", answer.location)
            self.end_headers()
            if answer.manner == "drip":
                self._drip(answer.body)
            else:
                half = len(answer.body) // 2
                self.wfile.write(answer.body[:half] if answer.manner == "cut" else answer.body)

        def _drip(self, body: bytes) -> None:
            for byte in body:
                if liar.over(_DRIP_S):
                    return
                self.wfile.write(bytes([byte]))

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Handler
