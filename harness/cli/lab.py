"""``harness lab …``: the stand-in target on this machine."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import click

from harness.errors import LabError

STATE_DIR = Path(".lab")


@click.group()
def lab() -> None:
    """The lab: the whole architecture on this machine, behind its real protocols."""


@lab.command()
@click.option(
    "--time-scale",
    default=10.0,
    show_default=True,
    help="Divides the intervals of AWS (health checks, TTLs, RDS failover).",
)
@click.option(
    "--defect",
    "defects",
    multiple=True,
    metavar="NAME",
    help="Start with a seeded defect (see `harness lab defects`).",
)
@click.option("--owner", type=int, metavar="PID", help="Go down some time after this process ends.")
@click.option("--base", type=click.IntRange(1, 254), help="Use 127.BASE.0.0/16.")
@click.option(
    "--network",
    type=click.Choice(["stop", "nft"]),
    default="stop",
    show_default=True,
    help="How lost zones are cut off: processes stopped, or (root only) packets dropped as well.",
)
@click.option(
    "--pod-start-delay",
    "pod_start_delay_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="From a pod's scheduling to its process (default 2).",
)
@click.option("--foreground", is_flag=True, help="Stay until Ctrl-C, then take it down.")
def up(
    time_scale: float,
    defects: tuple[str, ...],
    owner: int | None,
    base: int | None,
    network: str,
    pod_start_delay_s: float | None,
    foreground: bool,
) -> None:
    """Start it and wait until every part is ready."""
    from harness.lab import handle

    try:
        running = handle.up(
            STATE_DIR,
            time_scale=time_scale,
            defects=defects,
            base=base,
            network=network,
            pod_start_delay_s=pod_start_delay_s,
            owner=os.getpid() if foreground else owner,
        )
        click.echo(
            f"lab is up in {running.boot_s:.1f} s on 127.{running.base}.0.0/16; "
            f"target file: {running.target_file}"
        )
        if foreground:
            handle.wait_end(running)
    except KeyboardInterrupt:
        click.echo("taking the lab down")
        handle.down(STATE_DIR)


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="The whole status as JSON.")
def status(as_json: bool) -> None:
    """Show what is up, what is cut off, and who holds which role."""
    from harness.lab import handle

    running = _running()
    found = handle.status(running) | {"memory_bytes": handle.memory_bytes(running)}
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo(
        f"lab on 127.{running.base}.0.0/16, pid {running.pid}, time scale "
        f"{running.time_scale:g}, {found['memory_bytes'] / 2**20:.0f} MiB"
    )
    for line in _status_lines(found):
        click.echo(f"  {line}")


def _status_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        f"cut off: {', '.join(found['cut_off']) or 'nothing'}",
        f"disaster recovery: {found['recovery']}",
    ]
    lines += [
        f"{name}: {view['role']} in {view['zone']}, {view['status']}"
        for name, view in found["databases"].items()
    ]
    lines += [
        f"{cluster}: " + ", ".join(f"{s} {n}" for s, n in pods.items())
        for cluster, pods in found["pods"].items()
    ]
    if found["defects"]:
        lines.append(f"seeded defects: {', '.join(found['defects'])}")
    return lines


@lab.command()
def down() -> None:
    """Take it down; nothing is left running."""
    from harness.lab import handle

    click.echo("lab is down" if handle.down(STATE_DIR) else "no lab is up here")


@lab.command()
def defects() -> None:
    """List the seeded defects: ways to break the lab that a game day must notice."""
    from harness.lab.defects import DEFECTS

    for defect in DEFECTS:
        click.echo(f"{defect.name:24} {defect.what} ({defect.expect})")


@lab.command()
def env() -> None:
    """Print shell exports so that stock tools (kubectl, aws, chaos) reach the lab."""
    import yaml

    running = _running()
    document = yaml.safe_load(running.target_file.read_text())
    environment = {
        **document["environment"],
        "HARNESS_TARGET": str(running.target_file.resolve()),
        "HARNESS_DNS": document["dns_server"],
    }
    for name, value in environment.items():
        click.echo(f"export {name}={shlex.quote(str(value))}")


@lab.command()
@click.argument("region")
@click.option("--lag", "lag_s", type=float, help="Seconds each object waits before it is copied.")
@click.option("--pause/--resume", "paused", default=None, help="Hold or go on with replication.")
def replication(region: str, lag_s: float | None, paused: bool | None) -> None:
    """Show (or set) the object replication out of REGION."""
    from harness.lab import handle

    settings = {k: v for k, v in (("lag_s", lag_s), ("paused", paused)) if v is not None}
    click.echo(json.dumps(handle.replication(_running(), region, settings)))


def _running() -> Any:
    from harness.lab import handle

    running = handle.find(STATE_DIR)
    if running is None:
        raise LabError("no lab is up here", hint="`harness lab up` starts one")
    return running
