"""Prometheus, read strictly and in time.

An empty answer, NaN, an old sample, a warning about partial data, a second
series: each is *no evidence*, never a number. ``prometheus-api-client`` does the
asking; what it leaves out is put back here: it has no deadline, retries for six
seconds, follows redirects, rounds times to a second and drops the answer's
status and warnings.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.retry import Retry

from harness.clock import Clock, SystemClock
from harness.errors import ExitStatus, HarnessError
from harness.target.deadline import Late, call_within

#: Most bytes an answer may have; an hour of a run's widest series is far below it.
ANSWER_SIZE_MAX_BYTES = 64 * 1024 * 1024
_SELECTOR = re.compile(r"^[A-Za-z_:][\w:]*(\{[^{}]*\})?$|^\{[^{}]*\}$")
_HINTS = {
    "empty": "the series does not exist (now): is the target scraped, is the label right?",
    "nan": "0/0: was there traffic?",
    "inf": "division by zero: was there traffic?",
    "stale": "is the target still scraped, do the clocks agree?",
    "partial": "a part of the data could not be read",
    "error": "run the query in the Prometheus page",
    "several": "aggregate in the query, or read every series",
    "unreachable": "is prometheus_url right, is Prometheus running?",
    "timeout": "is Prometheus overloaded or cut off?",
    "bad-answer": "is prometheus_url really a Prometheus?",
}
#: What a metric's name may have behind the one its type is declared for.
_SUFFIXES = ("", "_total", "_bucket", "_sum", "_count", "_created")
T = TypeVar("T")
_local = threading.local()


class PrometheusGap(HarnessError):
    """Prometheus gave no usable evidence. ``reason`` is one of the keys of the hint table:

    empty, nan, inf, stale, partial, error, several, unreachable, timeout, bad-answer.
    """

    exit_status = ExitStatus.UNKNOWN

    def __init__(self, reason: str, detail: str, query: str = "") -> None:
        of = f" for `{query}`" if query else ""
        super().__init__(f"Prometheus: {reason}{of}: {detail}", hint=_HINTS[reason])
        self.reason = reason
        self.detail = detail
        self.query = query


@dataclass(frozen=True)
class Sample:
    """One finite value of one series at ``t`` (wall seconds, Prometheus's clock)."""

    labels: Mapping[str, str]
    t: float
    value: float


@dataclass(frozen=True)
class RangeAnswer:
    """A range query's answer, nothing dropped; ``step_s`` is 0 for samples as scraped.

    ``result``: ``[{"labels": {...}, "points": [[t, "value"], ...]}, ...]`` with values as
    the strings Prometheus sent (``"NaN"`` stays ``"NaN"``); times in wall seconds.
    """

    query: str
    start: float
    end: float
    step_s: float
    status: str
    warnings: tuple[str, ...]
    result: list[dict[str, Any]]


class PrometheusReader:
    """Queries one Prometheus. Safe to share between threads.

    ``timeout_s`` bounds each call as a whole; ``age_max_s`` is how old (or how far
    ahead) a sample may be.
    """

    def __init__(
        self,
        url: str,
        *,
        scrape_interval_s: float = 15.0,
        timeout_s: float = 4.0,
        connect_timeout_s: float = 2.0,
        clock: Clock | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()
        self.age_max_s = 2 * scrape_interval_s
        connect_timeout_s = min(connect_timeout_s, timeout_s)
        self._session = _StrictSession((connect_timeout_s, timeout_s))
        self._connect = PrometheusConnect(
            self._url, session=self._session, retry=Retry(0), timeout=timeout_s
        )
        # PrometheusConnect mounts a plain adapter for its address: ours goes over it.
        self._session.mount(self._url, StrictAdapter(max_retries=0))

    def close(self) -> None:
        """Release pooled connections."""
        self._connect.close()

    def instant(self, query: str, *, fresh: str | None = None) -> Sample:
        """The one finite, fresh value of ``query``; PrometheusGap otherwise.

        Prometheus stamps an instant answer with the time of the *question*, so age is
        looked up with ``timestamp()``: of ``query`` itself when that is a plain
        selector, else of the selector ``fresh`` if given.
        """
        samples = self.vector(query, fresh=fresh)
        if len(samples) > 1:
            raise PrometheusGap("several", f"{len(samples)} series, wanted one", query)
        return samples[0]

    def vector(
        self, query: str, *, fresh: str | None = None, allow_empty: bool = False
    ) -> tuple[Sample, ...]:
        """Every series of ``query``, each finite and fresh; PrometheusGap otherwise."""
        samples = self._ask(query)
        if not samples and not allow_empty:
            raise PrometheusGap("empty", "no series", query)
        for sample in samples:
            self._check_age(sample.t, query)
        selector = fresh or (query if samples and _SELECTOR.match(query.strip()) else None)
        if selector:
            self._check_scraped(selector, query)
        return samples

    def values(self, query: str) -> tuple[Sample, ...]:
        """Every series of ``query``, each finite, none if there is none; how old the samples
        behind it are is not looked at (see :meth:`newest_t`)."""
        return self._ask(query)

    def newest_t(self, selector: str) -> float | None:
        """When the newest sample of ``selector`` was scraped (wall seconds); None: no sample."""
        return max((s.value for s in self._ask(f"timestamp({selector})")), default=None)

    def metric_names(self) -> frozenset[str]:
        """Every metric that Prometheus has, or that its targets say they have, or its rules make.

        A counter with labels of which none was counted yet is known by its metadata alone.
        """
        data = self._data_of("label/__name__/values", list)
        described = self._data_of("metadata", dict)
        groups = self._data_of("rules?type=record", dict).get("groups", ())
        recorded = {str(rule["name"]) for group in groups for rule in group["rules"]}
        suffixed = {f"{name}{suffix}" for name in described for suffix in _SUFFIXES}
        return frozenset({*map(str, data), *suffixed, *recorded, "ALERTS", "ALERTS_FOR_STATE"})

    def _data_of(self, path: str, form: type[T]) -> T:
        body = self._fetch(lambda: self._session.get(f"{self._url}/api/v1/{path}"), path)
        if not isinstance(body.get("data"), form):
            raise PrometheusGap("bad-answer", f"no {form.__name__} of data", path)
        return body["data"]

    def range(self, query: str, start: float, end: float, step_s: float) -> RangeAnswer:
        """Values of ``query`` from ``start`` to ``end`` (wall seconds, ms kept).

        Warnings are kept, not judged. Raises PrometheusGap when there is no answer at
        all; an answer without series is an answer (``result == []``).
        """
        # The package rounds times to a second; its `params` win over what it rounds.
        exact = {"start": f"{start:.3f}", "end": f"{end:.3f}"}
        day = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
        body = self._fetch(
            lambda: self._connect.custom_query_range(query, *day, f"{step_s:g}", params=exact),
            query,
        )
        return _range_answer(body, query, start, end, step_s)

    def samples(self, selector: str, start: float, end: float) -> RangeAnswer:
        """The samples of ``selector`` as they were scraped, after ``start`` up to ``end``.

        Unlike :meth:`range` each point has the instant of its scrape, and none is repeated.
        Warnings and raising as there.
        """
        query = f"{selector}[{max(1, round((end - start) * 1000))}ms]"
        at = {"time": f"{end:.3f}"}
        body = self._fetch(lambda: self._connect.custom_query(query, params=at), query)
        return _range_answer(body, query, start, end, 0.0)

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts pending or firing now: ``[{"labels", "annotations", "state", …}]``."""
        body = self._fetch(lambda: self._session.get(f"{self._url}/api/v1/alerts"), "alerts")
        alerts = body.get("data", {}).get("alerts") if isinstance(body.get("data"), dict) else None
        if not isinstance(alerts, list):
            raise PrometheusGap("bad-answer", "no list of alerts", "alerts")
        if _warnings(body):
            raise PrometheusGap("partial", "; ".join(_warnings(body)), "alerts")
        return alerts

    def clock_offset(self) -> tuple[float, float]:
        """``(offset_s, uncertainty_s)`` of Prometheus's clock against ours; + is ahead."""
        before = self._clock.wall_s()
        (sample,) = self._ask("time()")
        after = self._clock.wall_s()
        return sample.value - (before + after) / 2, (after - before) / 2

    def _ask(self, query: str) -> tuple[Sample, ...]:
        body = self._fetch(lambda: self._connect.custom_query(query), query)
        warnings = _warnings(body)
        if warnings:
            raise PrometheusGap("partial", "; ".join(warnings), query)
        if isinstance(body.get("data"), dict) and body["data"].get("resultType") == "scalar":
            return (_sample({}, body["data"].get("result"), query),)
        data = _data(body, "vector", query)
        return tuple(_sample(s.get("metric"), s.get("value"), query) for s in data)

    def _check_age(self, t: float, query: str) -> None:
        age_s = self._clock.wall_s() - t
        if abs(age_s) > self.age_max_s:
            detail = f"sample is {age_s:.1f} s old, at most {self.age_max_s:g} s is allowed"
            raise PrometheusGap("stale", detail, query)

    def _check_scraped(self, selector: str, query: str) -> None:
        stamps = self._ask(f"timestamp({selector})")
        if not stamps:
            raise PrometheusGap("empty", f"no series for `{selector}`", query)
        self._check_age(min(stamp.value for stamp in stamps), query)

    def _fetch(self, send: Callable[[], Any], query: str) -> dict[str, Any]:
        """The decoded body of a successful answer; PrometheusGap for anything else."""
        capture = _Capture()

        def call() -> None:
            _local.capture = capture
            try:
                send()
            except (PrometheusApiClientException, KeyError, TypeError, ValueError) as error:
                # The package trips over bad answers; the captured answer is judged below.
                if capture.response is None:
                    raise _unsent(error, query) from error

        try:
            call_within(self._timeout_s, call, on_late=capture.hang_up)
        except Late as error:
            raise PrometheusGap("timeout", str(error), query) from error
        except requests.RequestException as error:
            raise _unsent(error, query) from error
        return _judge_answer(capture, query)


class _Capture:
    """What one call received, and the socket it uses."""

    def __init__(self) -> None:
        self.response: requests.Response | None = None
        self.connection: HTTPConnection | None = None

    def hang_up(self) -> None:
        sock = self.connection.sock if self.connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):  # already closed: nothing to unblock
                sock.shutdown(socket.SHUT_RDWR)


class _StrictSession(requests.Session):
    """No redirects, no environment proxies, bounded answers; keeps each answer whole."""

    def __init__(self, timeout: tuple[float, float]) -> None:
        super().__init__()
        self.trust_env = False
        self._timeout = timeout
        self.mount("http://", StrictAdapter(max_retries=0))
        self.mount("https://", StrictAdapter(max_retries=0))

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        kwargs.update(allow_redirects=False, stream=True, timeout=self._timeout)
        response = super().request(method, url, **kwargs)
        body = bytearray()
        for chunk in response.iter_content(64 * 1024):
            body += chunk
            if len(body) > ANSWER_SIZE_MAX_BYTES:
                response.close()
                raise requests.exceptions.ContentDecodingError("the answer is too large")
        response._content = bytes(body)
        response._content_consumed = True
        _local.capture.response = response
        return response


class _Guard:
    """Connection mix-in: registers itself with the call, refuses link-local peers."""

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        peer = self.sock.getpeername()[0]  # type: ignore[attr-defined]
        if is_link_local(peer):
            self.close()  # type: ignore[attr-defined]
            raise ValueError(f"{peer} is a link-local address")

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        capture = getattr(_local, "capture", None)
        if capture is not None:
            capture.connection = self
        return super().getresponse(*args, **kwargs)  # type: ignore[misc]


def is_link_local(address: str) -> bool:
    """Whether ``address`` is of the kind that cloud metadata services have."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_link_local


class _HTTPConnection(_Guard, HTTPConnection):
    pass


class _HTTPSConnection(_Guard, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class StrictAdapter(HTTPAdapter):
    """Of a session of requests: refuses to talk to link-local addresses, however they are named."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


def _unsent(error: Exception, query: str) -> PrometheusGap:
    """The gap for a request that brought no complete answer."""
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error):
        return PrometheusGap("timeout", _short(error), query)
    if isinstance(error, requests.exceptions.ConnectionError):
        return PrometheusGap("unreachable", _short(error), query)
    return PrometheusGap("bad-answer", _short(error), query)


def _judge_answer(capture: _Capture, query: str) -> dict[str, Any]:
    response = capture.response
    if response is None:
        raise PrometheusGap("bad-answer", "no answer was received", query)
    if 300 <= response.status_code < 400:
        to = response.headers.get("Location", "?")
        raise PrometheusGap("bad-answer", f"redirected to {to}; not followed", query)
    try:
        body = response.json()
    except ValueError as error:
        reason = "bad-answer" if response.status_code == 200 else "error"
        detail = f"HTTP {response.status_code}, not JSON: {response.content[:80]!r}"
        raise PrometheusGap(reason, detail, query) from error
    said = body.get("error") if isinstance(body, dict) else None
    if response.status_code != 200:
        raise PrometheusGap("error", f"HTTP {response.status_code}: {said or 'no reason'}", query)
    if not isinstance(body, dict) or body.get("status") not in ("success", "error"):
        raise PrometheusGap("bad-answer", "no status in the answer", query)
    if body["status"] == "error":
        raise PrometheusGap("error", str(said or "no reason given"), query)
    return body


def _range_answer(
    body: Mapping[str, Any], query: str, start: float, end: float, step_s: float
) -> RangeAnswer:
    data = _data(body, "matrix", query)
    try:
        result = [
            {
                "labels": dict(series["metric"]),
                "points": [[float(t), str(v)] for t, v in series["values"]],
            }
            for series in data
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise PrometheusGap("bad-answer", f"malformed series: {error!r}", query) from error
    return RangeAnswer(query, start, end, step_s, body["status"], _warnings(body), result)


def _data(body: Mapping[str, Any], kind: str, query: str) -> list[dict[str, Any]]:
    data = body.get("data")
    got = data.get("resultType") if isinstance(data, dict) else None
    if got != kind or not isinstance(data.get("result"), list):
        raise PrometheusGap("bad-answer", f"wanted a {kind}, got {got}", query)
    return data["result"]


def _sample(labels: Any, pair: Any, query: str) -> Sample:
    try:
        t, value = float(pair[0]), float(pair[1])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise PrometheusGap("bad-answer", f"malformed sample: {pair!r}", query) from error
    if math.isnan(value):
        raise PrometheusGap("nan", f"the value of {labels or 'the answer'} is NaN", query)
    if math.isinf(value):
        raise PrometheusGap("inf", f"the value of {labels or 'the answer'} is {value}", query)
    return Sample(dict(labels or {}), t, value)


def _warnings(body: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(w) for w in body.get("warnings") or ())


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
