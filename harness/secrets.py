"""Secrets are taken out of whatever is written, by their value.

A process learns the values it could give away (:func:`learn`): what its environment and the target
file hold under names such as ``…_TOKEN``, what a URL has before its ``@``, what the kubeconfig and
the AWS credentials it uses hold. From then on :func:`redact` puts :data:`MASK` in their place, also
where they are quoted for a URL, escaped in JSON, or in base64 at any offset.

Values of fewer than :data:`SHORTEST` characters are left: they are words that occur everywhere.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "[redacted]"
SHORTEST = 8
#: Names of settings that hold a secret.
_NAME = re.compile(
    r"pass(word|wd|phrase)?|secret|token|credential|private|(api|access|routing|session)[-_]?key"
    r"|key-data|authorization|cookie|dsn|webhook",
    re.IGNORECASE,
)
#: They say where a secret is, or name it, and are none.
_NO_SECRET = re.compile(r"(_file|_path|_dir|_url_file|_name|_id_file|_expiration)$", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)

_lock = threading.Lock()
_known: set[str] = set()
#: Every way a known value may be written, the longest first.
_written: tuple[str, ...] = ()


def learn(values: Iterable[str]) -> None:
    """From now on these are redacted in this process."""
    global _written
    with _lock:
        new = {value for value in values if len(value) >= SHORTEST} - _known
        if new:
            _known.update(new)
            forms = {form for value in _known for form in _forms(value)}
            _written = tuple(sorted(forms, key=lambda form: (-len(form), form)))


def forget() -> None:
    """Know none any more; for tests."""
    global _written
    with _lock:
        _known.clear()
        _written = ()


def redact(text: str) -> str:
    """``text`` with every known secret masked."""
    for form in _written:
        if form in text:
            text = text.replace(form, MASK)
    return text


def scrub(paths: Iterable[Path]) -> None:
    """Redact these files in place; one that cannot be read or written is left as it is.

    For output of programs that write their files themselves.
    """
    for path in paths:
        with suppress(OSError):
            said = path.read_bytes()
            # latin-1 maps each byte to one character and back, whatever the file holds.
            text = said.decode("latin-1")
            clean = redact(text)
            for form in _written:
                wide = form.encode().decode("latin-1")
                if wide in clean:
                    clean = clean.replace(wide, MASK)
            if clean != text:
                path.write_bytes(clean.encode("latin-1", "replace"))


def in_mapping(settings: Mapping[str, object]) -> Iterator[str]:
    """The secrets among settings: values of telling names, and what URLs hold."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from in_mapping(value)
        elif isinstance(value, (list, tuple)) and name != "secrets":
            # Under `secrets` an activity of Chaos Toolkit lists names of secrets.
            yield from in_mapping({f"{name} {n}": item for n, item in enumerate(value)})
        elif isinstance(value, str):
            if _NAME.search(name) and not _NO_SECRET.search(name):
                yield value
            for url in _URL.findall(value):
                yield from in_url(url)


def in_url(url: str) -> Iterator[str]:
    """The password (and user) of a URL, as written and as meant, and secrets of its query."""
    with suppress(ValueError):
        parts = urlsplit(url)
        before, at, _ = parts.netloc.rpartition("@")
        if at:
            yield from (before, unquote(before))
            yield from (x for word in before.split(":") for x in (word, unquote(word)))
        for pair in parts.query.split("&"):
            name, _, value = pair.partition("=")
            if _NAME.search(name):
                yield from (value, unquote(value))


def _forms(value: str) -> Iterator[str]:
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    for quoted in (quote(value), quote(value, safe=""), quote_plus(value)):
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda hexed: hexed[0].lower(), quoted)
    raw = value.encode()
    for offset in range(3):
        # What of base64 depends on this value alone, when something of so many bytes precedes it.
        whole = base64.b64encode(bytes(offset) + raw)
        first = (0, 2, 3)[offset]
        last = len(whole) if (offset + len(raw)) % 3 == 0 else (offset + len(raw)) * 8 // 6
        found = whole[first:last].decode()
        yield found
        yield found.replace("+", "-").replace("/", "_")
