"""Seeded defects: ways the lab can be broken on purpose, to see whether the judge notices.

A defect belongs to one part: the lab starts with it, or (``generator-killed``) the
load driver is told to lose its own process, since the lab does not know who sends
the traffic.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defect:
    """One seeded defect. ``expect`` says what a game day must then end with."""

    name: str
    what: str
    expect: str
    #: "lab" or "load": who carries it out
    where: str = "lab"


DEFECTS: tuple[Defect, ...] = (
    Defect("dns-never-fails-over", "DNS goes on answering with the lost region", "exit 99"),
    Defect("standby-never-promoted", "the standby database is never promoted", "exit 99"),
    Defect("lost-uploads", "one upload in 200 is acknowledged but not stored", "exit 99"),
    Defect("pods-not-replaced", "killed pods are not replaced", "exit 99"),
    Defect("errors-with-200", "some downloads answer 200 with an error body", "exit 99"),
    Defect(
        "lb-keeps-dead-zone",
        "the load balancer goes on sending to a zone that is gone",
        "exit 99",
    ),
    Defect("alerts-never-delivered", "alerts fire, and no receiver is ever told", "exit 99"),
    Defect("prometheus-stops", "Prometheus dies when the zone is lost", "exit 111"),
    Defect("fault-never-lands", "network ACL changes are accepted but change nothing", "exit 111"),
    Defect(
        "canary-analysis-says-success",
        "the analysis of a new version calls everything it measures good",
        "exit 99",
    ),
    Defect(
        "canary-gets-no-traffic",
        "the load balancer sends nobody to a new version, whatever its weight",
        "exit 111",
    ),
    Defect("hpa-does-nothing", "the autoscaler measures its load and never scales", "exit 99"),
    Defect("hpa-never-scales-back", "the autoscaler never takes a pod away", "exit 99"),
    Defect("breaker-never-opens", "a service that fails is asked again and again", "exit 99"),
    Defect("breaker-never-closes", "a service that failed once is never asked again", "exit 99"),
    Defect("degrades-silently", "a placeholder is served as if it were the picture", "exit 99"),
    Defect("errors-not-degraded", "where a placeholder was promised is an error", "exit 99"),
    Defect(
        "generator-killed", "the traffic generator is killed half-way", "exit 111", where="load"
    ),
)

NAMES = tuple(d.name for d in DEFECTS)
LAB_NAMES = tuple(d.name for d in DEFECTS if d.where == "lab")
