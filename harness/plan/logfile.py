"""Reads a recording: which requests a file holds, and when each is due.

Read by the plan's reader (before anything is touched) and by each generator, by the same
function, so both know the same schedule. What it does with what logs leave open:

* Lines are sorted by time: servers write a line when the answer is out, so slow ones are late.
* Where times are whole seconds, the requests of a second are spread over it at random, by the
  seed; their order is kept. Evenly spread they would be smoother than traffic ever is, and at
  its beginning they would be bursts that never were.
* Only GET, HEAD and OPTIONS are replayed, unless ``methods`` names others: doing a recorded
  DELETE again is rarely what is wanted. Contents of uploads are not recorded, only sizes.
* Scheme and host are dropped: the requests go to the target. Of a HAR file, which holds whatever
  a browser fetched, only those to the host it asked most.
* A line that cannot be read is counted; too many of them are an error.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import math
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import urlsplit

from harness.errors import PlanInvalid, Where
from harness.plan import accesslog
from harness.plan.accesslog import NoRequest, Parser, Record
from harness.plan.recording import Recording, Records

SAFE = ("GET", "HEAD", "OPTIONS")
METHODS = (*SAFE, "POST", "PUT", "PATCH", "DELETE")
#: What is read at most: some hundred MiB of memory, and more than a day at 50 requests/s.
RECORDS_MAX = 5_000_000
#: A longer line is read as several, none of which is a request: it is counted, not kept.
LINE_MAX_BYTES = 64 * 1024
HAR_MAX_BYTES = 256 * 1024 * 1024
#: An upload is replayed with at most so many bytes.
SIZE_MAX_BYTES = 1 << 30
#: Of the lines, this share may be unreadable (the ends of a cut file, a line of another program).
MALFORMED_MAX = 0.05
#: Lines looked at to find out which format it is.
_LOOK_AT = 100
MALFORMED = "malformed"


def recording_of(
    path: Path, shown: str, *, speed: float, methods: tuple[str, ...], seed: int, horizon_s: float
) -> Recording:
    """What a plan keeps of the recording in ``path`` (called ``shown``). Raises PlanInvalid."""
    records = read_records(path, methods=methods, seed=seed)
    return Recording(
        file=shown,
        sha256=digest(path),
        format=records.format,
        speed=speed,
        methods=methods,
        records=len(records),
        recorded_s=round(records.period_s, 6),
        out_of_order=records.out_of_order,
        skipped=dict(sorted(records.skipped.items())),
        per_second=records.per_second(speed, horizon_s),
    )


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_records(path: Path, *, methods: tuple[str, ...] = SAFE, seed: int = 0) -> Records:
    """The requests of a log (plain or gzip) or HAR file that are to be replayed.

    Raises PlanInvalid, with file and line, for what is none or holds too much that cannot be read.
    """
    try:
        with _open(path) as file:
            found = _Reading(path, frozenset(methods), seed)
            start = file.peek(64)[:64].lstrip()  # type: ignore[attr-defined]
            if start.startswith(b"{"):
                return found.har(file)
            return found.log(iter(lambda: file.readline(LINE_MAX_BYTES), b""))
    except (OSError, EOFError) as error:
        raise PlanInvalid(
            f"the recording cannot be read: {error}",
            hint="give an access log, plain or .gz, or a HAR file",
            where=Where(str(path)),
        ) from error


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


class _Reading:
    """One reading of one file."""

    def __init__(self, path: Path, methods: frozenset[str], seed: int) -> None:
        self._path = path
        self._methods = {method.encode() for method in methods}
        self._seed = seed
        self._records = Records()
        self._numbers: dict[tuple[bytes, bytes], int] = {}
        self._times = array("d")
        self._exact = True
        self._latest = -math.inf

    # ---- logs ----------------------------------------------------------------------------

    def log(self, lines: Iterable[bytes]) -> Records:
        numbered = enumerate(lines, start=1)
        head = list(itertools.islice(numbered, _LOOK_AT))
        parse = self._parser([line for _, line in head])
        read = malformed = first_malformed = 0
        for number, line in itertools.chain(head, numbered):
            line = line.rstrip(b"\r\n")
            if not line or line.startswith(b"#"):
                continue
            read += 1
            try:
                self._take(parse(line))
            except NoRequest as nothing:
                self._records.skipped[str(nothing)] += 1
            except ValueError:
                malformed += 1
                first_malformed = first_malformed or number
            if len(self._times) > RECORDS_MAX:
                self._fail(f"more than {RECORDS_MAX:,} requests", "cut it into pieces", number)
        if malformed:
            self._records.skipped[MALFORMED] = malformed
        if malformed > max(1, MALFORMED_MAX * read):
            self._fail(
                f"{malformed} of {read} lines are not of the {self._records.format} format; "
                "this is the first",
                "remove what is no log, or convert it",
                first_malformed,
            )
        return self._done()

    def _parser(self, lines: list[bytes]) -> Parser:
        """Which format it is: the one of the first line that is of any."""
        for line in lines:
            if line.startswith(b"#Fields:"):
                self._records.format = "CloudFront"
                try:
                    return accesslog.cloudfront(line.split()[1:])
                except ValueError:
                    self._fail("no request in the columns of #Fields", "a standard log has them", 1)
        known = {"load balancer": accesslog.load_balancer, "common": accesslog.common}
        for line in lines:
            for name, parse in known.items():
                try:
                    parse(line.rstrip(b"\r\n"))
                except NoRequest:
                    pass
                except ValueError:
                    continue
                self._records.format = name
                return parse
        return self._fail(
            f"none of the first {len(lines)} lines is of a known format" if lines else "no lines",
            "Common or Combined Log Format, ALB or CloudFront access log, HAR 1.2",
            1,
        )

    # ---- HAR -----------------------------------------------------------------------------

    def har(self, file: IO[bytes]) -> Records:
        self._records.format = "HAR"
        text = file.read(HAR_MAX_BYTES + 1)
        if len(text) > HAR_MAX_BYTES:
            self._fail(f"a HAR file of more than {HAR_MAX_BYTES >> 20} MiB", "record less", None)
        try:
            entries = json.loads(text)["log"]["entries"]
        except json.JSONDecodeError as error:
            self._fail(f"not JSON: {error.msg}", "save it as HAR again", error.lineno)
        except (ValueError, KeyError, TypeError):
            self._fail("JSON without log.entries is no HAR file", "save it as HAR 1.2", None)
        if not isinstance(entries, list):
            self._fail("log.entries is no list", "save it as HAR 1.2", None)
        hosts = [_host(entry) for entry in entries]
        wanted = Counter(host for host in hosts if host).most_common(1)
        first_malformed = None
        for number, (entry, host) in enumerate(zip(entries, hosts, strict=True)):
            if host is None:
                self._records.skipped[MALFORMED] += 1
                first_malformed = number if first_malformed is None else first_malformed
            elif not host:
                self._records.skipped["no request"] += 1
            elif host != wanted[0][0]:
                self._records.skipped["other host"] += 1
            else:
                self._entry(entry)
        malformed = self._records.skipped[MALFORMED]
        if not malformed:
            del self._records.skipped[MALFORMED]
        if malformed > max(1, MALFORMED_MAX * len(entries)):
            self._fail(
                f"{malformed} of {len(entries)} entries record no request; the first is "
                f"log.entries[{first_malformed}]",
                "save it as HAR 1.2",
                None,
            )
        return self._done()

    def _entry(self, entry: Mapping[str, Any]) -> None:
        request = entry["request"]
        status = entry.get("response", {}).get("status", 0)
        size = request.get("bodySize", 0)
        self._take(
            Record(
                accesslog.iso_time(entry["startedDateTime"].encode()),
                True,
                request["method"].encode(),
                accesslog.origin_form(request["url"].encode()),
                status if isinstance(status, int) and status > 0 else 0,
                size if isinstance(size, int) and size > 0 else 0,
            )
        )

    # ---- both ----------------------------------------------------------------------------

    def _take(self, record: Record) -> None:
        records = self._records
        if record.method not in self._methods:
            known = record.method.decode("ascii", "replace")
            # Anybody may write anything into a log; what is no method is not repeated.
            name = known if known in METHODS else "of another kind"
            records.skipped[f"method {name}"] += 1
            return
        if record.t < self._latest:
            records.out_of_order += 1
        else:
            self._latest = record.t
        key = (record.method, record.target)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(records.targets)
            records.methods.append(record.method.decode("ascii"))
            records.targets.append(record.target)
        self._exact &= record.exact
        self._times.append(record.t)
        records.what.append(number)
        records.statuses.append(record.status if record.status < 1000 else 0)
        records.sizes.append(min(record.size_bytes, SIZE_MAX_BYTES))

    def _done(self) -> Records:
        records, times = self._records, self._times
        if not times:
            skipped = ", ".join(f"{why}: {n}" for why, n in records.skipped.items())
            self._fail(
                f"no request to replay ({skipped or 'it is empty'})",
                "methods: names what is replayed beside GET, HEAD and OPTIONS",
                None,
            )
        if records.out_of_order:
            order = sorted(range(len(times)), key=times.__getitem__)
            times = array("d", (times[i] for i in order))
            for name in ("what", "statuses", "sizes"):
                column = getattr(records, name)
                setattr(records, name, array(column.typecode, (column[i] for i in order)))
        start = times[0]
        if self._exact:
            span_s = times[-1] - start
            gap_s = span_s / (len(times) - 1) if span_s > 0 else 1.0
            records.period_s = span_s + gap_s
            records.offsets_s = array("d", (t - start for t in times))
        else:
            start = math.floor(start)
            records.period_s = float(math.floor(times[-1]) - start + 1)
            records.offsets_s = self._spread(times, start)
        return records

    def _spread(self, times: array[float], start: int) -> array[float]:
        """Offsets of whole-second times, each second's at random instants within it."""
        uniform = random.Random(f"recorded:{self._seed}").random
        offsets_s = array("d")
        for second, same in itertools.groupby(math.floor(t) - start for t in times):
            offsets_s.extend(sorted(second + uniform() for _ in same))
        return offsets_s

    def _fail(self, message: str, hint: str, line: int | None) -> NoReturn:
        raise PlanInvalid(message, hint=hint, where=Where(str(self._path), line))


def _host(entry: Any) -> str | None:
    """The host a HAR entry asked, ``""`` for none (``data:``); None where it is no whole entry."""
    try:
        accesslog.iso_time(entry["startedDateTime"].encode())
        method, url = entry["request"]["method"], entry["request"]["url"]
        entry.get("response", {}).get("status", 0)
        address = urlsplit(url)
        if not method.isascii():
            return None
        return address.hostname if address.scheme in ("http", "https") and address.hostname else ""
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
