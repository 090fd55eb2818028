"""The bench's JSON as Markdown: a pure function. What is said about the figures is said here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.bench.figures import ENGINE, Bound, Results, Spread, bounds, cpu, ratio
from tests.bench.workloads import TITLES

_NAMES = {
    "engine": "**harness**, declared, tallies folded (engine mode)",
    "event": "**harness**, declared, Locust's event for each",
    "full": "**harness**, plain tasks (`HarnessUser`)",
    "fast": "Locust `FastHttpUser`",
    "http": "Locust `HttpUser`",
    "h2load": "h2load `--h1`",
}

#: A generator that is never waiting gets at least so much of its core on a quiet machine.
QUIET_CORES = 0.9

HEAD = """\
# What the load costs, and how true it is

Made by `make bench`, which writes this page; it is not edited by hand. The figures it is made from
are in [performance.json](performance.json).
"""

METHOD = """\
One nginx worker is the target. It has one core and the generator another; where both are said to
share the cores, nothing is pinned. **CPU per request** is user and system time of the generator's
processes, as the operating system counts it, over the requests that the *target* counted (nginx
`stub_status`), in a window of {window_s:g} s after everything has settled. Rounds: {rounds}; in
each, every generator runs once, in an order that turns by one. Ratios are taken within a round;
shown are their median and, in brackets, the least and greatest. The long runs at a fixed rate are
made {fixed_rounds} times. Loopback: what the kernel spends to deliver a request is charged to who
sends it, and there is no network card in the way.

Status and length of every answer are checked by ours and by stock Locust alike; the other programs
look at the status. Every generator's own count is compared with the target's; a difference beyond
what was in flight when it stopped is listed as a problem below. 100 connections are kept open
unless said otherwise; no request is sent before the answer to the last on its connection.
"""

LIMITS = {
    "small": "wrk spends nearly all of it in the kernel: sending, waking the target, receiving. "
    "The engine's part in the kernel is no larger; what it adds is Python: the state of the "
    "connection, the head of the answer, counting. Locust's event with its statistics comes on "
    "top of that, and a greenlet, a response and cookies on top of that for a plain task.",
    "large": "Copying, for those that read the body. The engine has the kernel drop it where "
    "nobody looks at it (`MSG_TRUNC`), and checks its length: it spends less in the kernel than "
    "wrk, and more in Python. A plain task is given the body, so it is read.",
    "upload": "The kernel. The target copies the body out of its socket; what is left to the "
    "generator is to fill that socket and to wake the target. A declared request, head and body, "
    "lies in a pipe whose pages are lent to the socket (`tee`, `splice`), so nothing is copied, "
    "and nothing looked up as `sendfile` does for each page; the others' bytes, and a plain "
    "task's that come but once, are copied once more. Where BBR is the system's way to control "
    "congestion it sets a timer for every piece, which costs more than the sending; ours does "
    "not use it within a machine.",
    "mix": "The sum of the three by their shares. wrk's is computed so from its own three: its "
    "only way to mix is a script, which copies each upload's body once more.",
    "tls": "Encryption in OpenSSL, the same for all, and Python's way to it: four calls for each "
    "request. What goes over the wire passes through memory, so the socket is read once for an "
    "answer, where OpenSSL reads it twice. Without TLS in the kernel neither `sendfile` nor "
    "`MSG_TRUNC` helps.",
}


def render(results: Results) -> str:
    """The whole page."""
    parts = [
        HEAD,
        "## Bounds\n\n" + _bounds_table(bounds(results)),
        "## How it is measured\n\n" + METHOD.format(**results["lengths"]) + _machine(results),
        _closed(results),
        _open(results),
        _pace(results),
        _freeze(results),
        _many(results),
        _own(results),
        _problems(results),
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts if part)


def summary(results: Results) -> str:
    """What is printed in the end: the bounds, what is missing, what went wrong."""
    lines = [_bounds_table(bounds(results))]
    lines += [f"not measured: {t['name']} (get it: {t['get']})" for t in results["missing"]]
    lines += [f"PROBLEM: {problem}" for problem in results["problems"]]
    return "\n".join(lines)


# ---- parts --------------------------------------------------------------------------------------


def _bounds_table(found: Iterable[Bound]) -> str:
    rows = []
    for bound in found:
        sign = "≤" if bound.at_most else "≥"
        unit = f" {bound.unit}" if bound.unit and bound.unit not in "×%" else bound.unit
        met = {True: "met", False: "**not met**", None: "not measured"}[bound.met]
        if bound.met is None and bound.why:
            met += f": {bound.why}"
        value = _value(bound.value) + (unit if bound.value is not None else "")
        rows.append((bound.what, f"{sign} {bound.limit:g}{unit}", value, met))
    return _table(("what", "bound", "measured", ""), rows)


def _machine(results: Results) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{n} {v}" for n, v in machine["versions"].items())
    tools = ", ".join(" ".join(filter(None, (t["name"], t["version"]))) for t in results["tools"])
    missing = "".join(
        f"- {t['name']} is not installed here, so it is not measured: {t['get']}\n"
        for t in results["missing"]
    )
    return (
        f"\nThis run: {results['date']}; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']:g} GiB, {machine['kernel']}, {machine['python']} "
        f"({machine['compiler_options']}), {machine['open_files']} open files; {versions}; "
        f"{tools}.\n" + _disturbance(results) + (f"\n{missing}" if missing else "")
    )


def _disturbance(results: Results) -> str:
    """Says so where a generator that takes all the CPU it can get did not get its core."""
    samples = [s for of in results.get("closed", {}).values() for s in of.get("fast", [])]
    got = Spread.of([s["cores"] for s in samples])
    if got is None or got.median >= QUIET_CORES:
        return ""
    return (
        "\n**Other work ran on these cores meanwhile**: `FastHttpUser`, which takes all it can "
        f"get, got {got.median:.2f} of its core. Costs are then higher than they need be, the more "
        "so the larger a program is, and latencies are those of the queue for the processor.\n"
    )


def _closed(results: Results) -> str:
    found = results.get("closed")
    if not found:
        return ""
    workloads = [w for w in TITLES if w in found]
    names = _in_order({name for w in workloads for name in found[w]})
    costs = [
        (_title(name), *(_cost(results, w, name) for w in workloads), _memory(found, name))
        for name in names
    ]
    against = [n for n in names if n != ENGINE]
    ratios = [
        (
            _title(name),
            *(_value(ratio(cpu(results, w, name), cpu(results, w, ENGINE))) for w in workloads),
        )
        for name in against
    ]
    kernel = [
        (
            _title(name),
            *(_value(_spread(found[w].get(name, []), "kernel_us")) for w in workloads),
        )
        for name in names
    ]
    limits = "\n".join(f"- *{TITLES[w]}.* {LIMITS[w]}" for w in workloads)
    heads = [TITLES[w] for w in workloads]
    return (
        "## Flat out: CPU µs per request\n\n"
        + _table(("", *heads, "peak MiB"), costs)
        + "\nA core does a million divided by that in a second. As ratios to the engine:\n\n"
        + _table(("CPU of … / engine", *heads), ratios)
        + "\nOf the µs per request, those in the kernel:\n\n"
        + _table(("", *heads), kernel)
        + "\nWhat limits each column:\n\n"
        + limits
    )


def _open(results: Results) -> str:
    rows = []
    for scenario, title in (
        ("open", "10,000/s of the mix, one process"),
        ("two_workers", "40,000/s of the mix, two workers, sharing the target's cores"),
    ):
        for name, samples in results.get(scenario, {}).items():
            for sample in samples:
                rows.append(
                    (
                        title,
                        _title(name),
                        str(sample.get("planned", "–")),
                        str(sample.get("sent", sample["own_requests"])),
                        f"{sample['cores']:.2f}",
                        f"{sample['target_cores']:.2f}",
                        _ms(sample.get("lateness_ms", {}), "p99"),
                        _ms(sample["latency_ms"], "p50"),
                        _ms(sample["latency_ms"], "p99"),
                    )
                )
    if not rows:
        return ""
    head = ("load", "generator", "planned", "sent", "cores", "target's", "late p99")
    return (
        "## Open, at a fixed rate\n\n"
        + _table((*head, "p50 ms", "p99 ms"), rows)
        + "\n*Late* is how long after its planned instant a request left; latency runs from the "
        "planned instant, so it holds that too. Above 2,000/s a process wakes up twice a "
        "millisecond and sends what is due: waking up for each would cost more than sending. "
        "Three busy processes get a third of two cores each, which is less than the target needs "
        "for 40,000/s: there the generators give way to it (`nice`), so that it is they who are "
        "late when there is not enough.\n" + _pacer(results, "open")
    )


def _pacer(results: Results, scenario: str) -> str:
    """What the machine made a process late that only kept a pace, around these runs."""
    seen = results.get("pacer_ms", {}).get(scenario)
    if not seen:
        return ""
    return (
        "\nBefore and after it, on the same core, a process that sends nothing, wakes up as often "
        f"and is busy for half of the time was late by {_value(_spread(seen, 'p99'))} ms at p99 "
        f"and {max(s['max'] for s in seen):.1f} ms at most: so much is the machine's own.\n"
    )


def _pace(results: Results) -> str:
    pace = results.get("pace")
    if not pace:
        return ""
    rows = []
    for name in _in_order(pace):
        samples = pace[name]
        rows.append(
            (
                _title(name),
                _value(Spread.of([s["rate"] for s in samples]), digits=0),
                *(
                    _value(Spread.of([s["latency_ms"][q] for s in samples]))
                    for q in ("p50", "p95", "p99")
                ),
                _value(Spread.of([s["cpu_us"] for s in samples])),
            )
        )
    return (
        "## Latencies at 10,000/s of GET 200 B\n\n"
        + _table(("", "achieved", "p50 ms", "p95 ms", "p99 ms", "CPU µs"), rows)
        + (
            "\nThe engine's latencies run from the planned instants, on a grid of half a "
            "millisecond: half a grid of its p50 is waiting for the next wake-up. hey counts from "
            "when it sends, on "
            "100 connections that each keep a tick of their own.\n"
        )
        + _pacer(results, "pace")
    )


def _freeze(results: Results) -> str:
    frozen = results.get("freeze")
    if not frozen:
        return ""
    truth = next(iter(frozen.values()))[0]["truth_ms"]
    quantiles = ("p50", "p95", "p99", "max")
    rows = [("the truth", *(_value(truth[q]) for q in quantiles), "")]
    for name in _in_order(frozen):
        sample = frozen[name][0]
        true = sample["truth_ms"]
        rows.append(
            (
                _title(name),
                *(
                    f"{_value(sample['latency_ms'][q])} ({sample['latency_ms'][q] / true[q]:.3g}×)"
                    if q in sample["latency_ms"]
                    else "–"
                    for q in quantiles
                ),
                f"{sample['requests']} of {sample['planned']}",
            )
        )
    return (
        "## The truth about a target that stands still\n\n"
        "2,000/s of GET 200 B, evenly spaced, while the worker is stopped for 1 s in every 10 s. "
        "The truth is computed from the instants at which it was stopped and went on, and the "
        "planned instants: what falls into a stall waits for its end. The queue that the target "
        "then works off is left out of it; so that it is short, all keep their connections. In "
        "brackets, what was reported over the truth of that run.\n\n"
        + _table(("ms", *quantiles, "reached the target"), rows)
        + "\nWho waits for an answer before asking again sends nothing during a stall, and so "
        "measures almost nothing of it. Locust rounds what it reports to two digits."
    )


def _many(results: Results) -> str:
    many = results.get("many")
    if not many:
        return ""
    if "not_measured" in many:
        return f"## More than 10,000 connections\n\nNot measured: {many['not_measured']}."
    rows = [
        (
            _title(name),
            str(many[name][0]["active"]),
            str(many[name][0]["window_requests"]),
            str(many[name][0]["new_connections"]),
            f"{many[name][0]['new_connections'] / many[name][0]['window_requests']:.4f}",
            f"{many[name][0]['cpu_us']:.1f}",
            f"{many[name][0]['peak_mib']:.0f}",
        )
        for name in _in_order(many)
    ]
    return (
        "## More than 10,000 connections\n\n"
        + _table(("", "open", "requests", "new", "new per request", "CPU µs", "MiB"), rows)
        + "\nGET 200 B, as many at once as there are connections. `FastHttpUser` asks with "
        "`select` whether a kept connection lives, which cannot answer for descriptors above "
        "1,023: it takes those for dead and connects anew. Ours ask with `epoll`."
    )


def _own(results: Results) -> str:
    rows = []
    if "recording" in results:
        request = Spread.of(results["recording"]["request_us"])
        rows.append(
            ("counting a request (two durations, size, threshold)", f"{_value(request)} µs")
        )
    if "judging" in results:
        judge_s, run_s = results["judging"]["judge_s"], results["judging"]["run_s"]
        part = judge_s / run_s * 100
        rows.append((f"judging a run of {run_s:g} s", f"{judge_s:.2f} s ({part:.2f} % of it)"))
    return "## Counting and judging\n\n" + _table(("", ""), rows) if rows else ""


def _problems(results: Results) -> str:
    problems = results["problems"]
    if not problems:
        return "## Problems\n\nNone: no request failed, and every count agrees with the target's."
    return "## Problems\n\n" + "\n".join(f"- {problem}" for problem in problems)


# ---- cells --------------------------------------------------------------------------------------


def _in_order(names: Iterable[str]) -> list[str]:
    known = [*_NAMES]
    return sorted(names, key=lambda n: (known.index(n) if n in known else len(known), n))


def _title(name: str) -> str:
    return _NAMES.get(name, name)


def _cost(results: Results, workload: str, name: str) -> str:
    found = Spread.of(list(cpu(results, workload, name).values()))
    computed = found is not None and name not in results["closed"][workload]
    return _value(found) + (" (computed)" if computed else "")


def _spread(samples: Iterable[Mapping[str, float]], key: str) -> Spread | None:
    return Spread.of([sample[key] for sample in samples])


def _memory(found: Mapping[str, Any], name: str) -> str:
    peaks = [s["peak_mib"] for samples in found.values() for s in samples.get(name, [])]
    return f"{max(peaks):.0f}"


def _ms(quantiles: Mapping[str, float], which: str) -> str:
    return _value(quantiles.get(which))


def _value(value: Spread | float | None, digits: int | None = None) -> str:
    if value is None:
        return "–"
    if isinstance(value, Spread):
        if value.low == value.high:
            return _number(value.median, digits)
        median, low, high = (_number(x, digits) for x in value)
        return f"{median} [{low}–{high}]"
    return _number(value, digits)


def _number(value: float, digits: int | None) -> str:
    if digits is None:
        if value == 0:
            return "0"
        # Three digits that count.
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
