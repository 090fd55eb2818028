"""What a process that works on a target could give away."""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harness.secrets import in_mapping
from harness.target.model import Target


def secrets_of(target: Target, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """The secrets of the target file, of the kubeconfig and AWS profiles it uses, and of
    ``environment``."""
    yield from in_mapping(asdict(target))
    if target.alert_receivers is not None:
        yield target.alert_receivers.token
    if target.pager is not None:
        # Who knows the address of an incoming webhook may post to it.
        yield target.pager.url
        yield from (unquote(part) for part in urlsplit(target.pager.url).path.split("/"))
    yield from in_mapping(environment)
    yield from _of_kubeconfig(Path(target.kubeconfig).expanduser())
    given = {**environment, **target.environment}
    at = given.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    yield from _of_profiles(Path(at).expanduser())


def _of_kubeconfig(path: Path) -> Iterator[str]:
    import yaml

    with suppress(OSError, yaml.YAMLError, AttributeError, TypeError):
        for user in yaml.safe_load(path.read_text())["users"]:
            yield from in_mapping(user["user"])
            for pair in (user["user"].get("exec") or {}).get("env") or ():
                yield from in_mapping({pair["name"]: pair["value"]})


def _of_profiles(path: Path) -> Iterator[str]:
    profiles = configparser.RawConfigParser()
    with suppress(OSError, configparser.Error, UnicodeDecodeError):
        profiles.read_string(path.read_text())
        for profile in profiles.sections():
            yield from in_mapping(dict(profiles[profile]))
