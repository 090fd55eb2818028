"""Whether what was acknowledged is still there, unaltered.

Acknowledged uploads must be found again. An upload that timed out may be there or not. An
object whose delete may have happened may be there or not. Replication to the standby is
asynchronous, so those acknowledged in the last moments before a region was lost may be
missing if the plan grants an RPO; they are reported even so.

Where there are too many objects to follow each, a share of them chosen by hash is followed.
Such a sample can show that something was lost; that nothing was, it shows only up to a bound and
with a confidence, so that it takes an objective that names both to pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.evidence.model import LedgerEntry, Listing, Readback
from harness.plan.model import Durability
from harness.verdict.case import Case
from harness.verdict.landing import Landing
from harness.verdict.model import Finding, Measured, Outcome, judge_at_most
from harness.verdict.proportions import share_at_least, share_at_most
from harness.verdict.recoverypoint import acked_t, recovery_point

_SHOWN = 3
#: Of what an objective without a confidence of its own says of a sample.
_CONFIDENCE = 0.95
#: Standard deviations by which a sampled ledger may have fewer uploads than were counted.
_SIGMAS = 5.0


@dataclass
class _Found:
    """Object ids, by what became of them."""

    kept: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    within_rpo: list[str] = field(default_factory=list)
    came_back: list[str] = field(default_factory=list)
    came_back_within_rpo: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    not_read: list[str] = field(default_factory=list)
    #: unsure ones that are there
    recovered: list[str] = field(default_factory=list)
    #: there, though their upload surely failed
    unexpected: list[str] = field(default_factory=list)
    #: missing for a while
    stale: list[str] = field(default_factory=list)
    #: the longest for which one was seen missing, in seconds
    stale_s: float = 0.0

    @property
    def lost(self) -> int:
        return len(self.missing) + len(self.altered)

    @property
    def read(self) -> int:
        """Acknowledged and not deleted, and known to be there or not."""
        return len(self.kept) + self.lost + len(self.within_rpo)


@dataclass(frozen=True)
class _Listed:
    """What the service's own list says, all its pages together."""

    pages: int
    listed: int
    twice: int
    copies: int
    undeleted: int
    absent: int
    errors: tuple[str, ...]
    names: tuple[str, ...]
    undeleted_names: frozenset[str]


def judge_durability(case: Case, objective: Durability, landings: tuple[Landing, ...]) -> Finding:
    """No acknowledged upload missing or altered; ``landings`` of the faults it names."""
    windows = [
        (landed.low - objective.rpo_s, landed.high)
        for landed in landings
        if landed.landed and objective.rpo_s > 0
    ]
    found = _sort(case, windows)
    listed = _listed(case.evidence.listings)
    outcome, measured, doubts = (
        _shared(case, objective, found) if objective.confidence else _counted(case, found)
    )
    if objective.strict:
        outcome, more = _strictly(case, found, listed, outcome)
        doubts += more
    not_followed = _not_followed(case)
    if not_followed:
        doubts.insert(0, not_followed)
    if not_followed and outcome is Outcome.PASS:
        outcome = Outcome.UNKNOWN
    told = [_because(found), *doubts, *_of_list(listed)]
    told += [said for landed in landings if (said := recovery_point(case, landed))]
    return Finding(
        objective=objective.text,
        phase="all",
        outcome=outcome,
        measured=measured,
        required=_required(objective),
        because="; ".join(told),
        evidence=("ledger/", "ledger/readback.jsonl"),
    )


def _required(objective: Durability) -> str:
    rpo = f", save those of the last {objective.rpo_s:g} s" if objective.rpo_s else ""
    if objective.confidence:
        share, sure = f"{objective.at_most * 100:g} %", f"{objective.confidence * 100:g} %"
        return f"≤ {share} of the acknowledged uploads missing or altered, {sure} confident{rpo}"
    if objective.strict:
        return f"0 acknowledged uploads missing, altered or there twice, 0 deletes undone{rpo}"
    return f"0 acknowledged uploads missing or altered{rpo}"


def _counted(case: Case, found: _Found) -> tuple[Outcome, Measured, list[str]]:
    """By the number lost: none may be."""
    lost, not_read = found.lost, len(found.not_read)
    high = lost + not_read if case.evidence.followed >= 1.0 else None
    measured = Measured(lost, lost, high, "uploads lost or altered")
    doubts = []
    if case.evidence.followed < 1.0:
        bound = share_at_most(lost + not_read, found.read + not_read, _CONFIDENCE)
        doubts.append(
            f"{_sampled(case)}: at most {_percent(bound)} of all were lost, "
            f"{_CONFIDENCE:.0%} confident; to pass on that, demand e.g. "
            f"`durability: at most {_percent(_round_up(bound))} lost, {_CONFIDENCE * 100:g} % "
            "confident`"
        )
    if lost:
        return Outcome.FAIL, measured, doubts
    if not_read or not found.read or doubts:
        return Outcome.UNKNOWN, measured, doubts
    return Outcome.PASS, measured, doubts


def _shared(
    case: Case, objective: Durability, found: _Found
) -> tuple[Outcome, Measured | None, list[str]]:
    """By the share lost; one that could not be read may be lost or not."""
    n, lost, worst = (
        found.read + len(found.not_read),
        found.lost,
        found.lost + len(found.not_read),
    )
    if not found.read:
        return Outcome.UNKNOWN, None, []
    if case.evidence.followed >= 1.0:
        low, high, doubts = lost / n, worst / n, []
    else:
        low = share_at_least(lost, n, objective.confidence)
        high = share_at_most(worst, n, objective.confidence)
        doubts = [
            f"{_sampled(case)}: between {_percent(low)} and {_percent(high)} of all were lost, "
            f"each bound {objective.confidence * 100:g} % confident"
        ]
    measured = Measured(lost / n, low, high, "of uploads lost or altered")
    return judge_at_most(objective.at_most, low, high), measured, doubts


def _strictly(
    case: Case, found: _Found, listed: _Listed, outcome: Outcome
) -> tuple[Outcome, list[str]]:
    """Neither may one be there twice, nor an acknowledged delete be undone."""
    undone = listed.undeleted - len(listed.undeleted_names & set(found.came_back_within_rpo))
    if found.came_back or listed.twice or listed.copies or undone > 0:
        return Outcome.FAIL, []
    doubts = []
    if listed.errors or not listed.pages:
        why = listed.errors[0] if listed.errors else "not looked at"
        doubts.append(f"whether one is there twice cannot be told: the service's list: {why}")
    deleted = {e.object for e in case.evidence.ledger if e.kind == "delete"}
    unread = {r.object for r in _finals(case) if r.object in deleted and not _is_known(r)}
    if unread:
        doubts.append(f"{len(unread)} deleted objects could not be asked for")
    if doubts and outcome is Outcome.PASS:
        return Outcome.UNKNOWN, doubts
    return outcome, doubts


def _not_followed(case: Case) -> str:
    """Why uploads the clients counted as acknowledged are not in the ledger; empty if they are.

    The tallies know nothing of the first objects, stored before the schedule began.
    """
    begun = [tally.start.get("start_t") for tally in case.evidence.tallies]
    begun_t = min((t for t in begun if isinstance(t, (int, float))), default=-math.inf)
    counted = sum(
        cell.n
        for tally in case.evidence.tallies
        for second in tally.seconds
        for cell in second.cells
        if cell.op == "upload" and cell.outcome == "ok"
    )
    written = sum(
        entry.kind == "write"
        and entry.op == "upload"
        and entry.outcome == "acked"
        and entry.planned_t >= begun_t
        for entry in case.evidence.ledger
    )
    share = case.evidence.followed
    spread = _SIGMAS * math.sqrt(counted * share * (1.0 - share))
    if written >= counted * share - spread:
        return ""
    return f"{counted} uploads were acknowledged, and {written} are in the ledger"


def _finals(case: Case) -> Iterable[Readback]:
    return (readback for readback in case.evidence.readbacks if not readback.phase)


def _is_known(readback: Readback) -> bool:
    return readback.result in ("present", "missing", "altered")


def _sort(case: Case, windows: list[tuple[float, float]]) -> _Found:
    readbacks = {readback.object: readback for readback in _finals(case)}
    deletes: dict[str, list[LedgerEntry]] = {}
    writes: dict[str, LedgerEntry] = {}
    for entry in case.evidence.ledger:
        if entry.kind == "delete":
            deletes.setdefault(entry.object, []).append(entry)
        else:
            writes[entry.object] = max(writes.get(entry.object, entry), entry, key=_firmness)
    found = _Found()
    for name in sorted(writes):
        _place(found, writes[name], deletes.get(name, []), readbacks.get(name), windows)
    _note_stale(case, found, readbacks)
    return found


def _firmness(entry: LedgerEntry) -> tuple[bool, bool, float]:
    """Which line counts of an object written several times: the first that was acknowledged."""
    return entry.outcome == "acked", entry.outcome == "unsure", -acked_t(entry)


def _place(
    found: _Found,
    entry: LedgerEntry,
    deletes: list[LedgerEntry],
    readback: Readback | None,
    windows: list[tuple[float, float]],
) -> None:
    name = entry.object
    result = readback.result if readback else "error"
    deleted = {delete.outcome for delete in deletes}

    def granted(*acked: LedgerEntry) -> bool:
        return all(any(low <= acked_t(e) <= high for low, high in windows) for e in acked)

    if entry.outcome == "unsure":
        found.unsure.append(name)
        if result in ("present", "altered"):
            found.recovered.append(name)
    elif entry.outcome != "acked":
        if result in ("present", "altered"):
            found.unexpected.append(name)
    elif "acked" in deleted:
        if result in ("present", "altered"):
            acked = (delete for delete in deletes if delete.outcome == "acked")
            back = found.came_back_within_rpo if granted(*acked) else found.came_back
            back.append(name)
    elif "unsure" in deleted:
        (found.altered if result == "altered" else found.unsure).append(name)
    elif result == "present":
        found.kept.append(name)
    elif result == "altered":
        found.altered.append(name)
    elif result == "missing":
        (found.within_rpo if granted(entry) else found.missing).append(name)
    else:
        found.not_read.append(name)


def _note_stale(case: Case, found: _Found, finals: dict[str, Readback]) -> None:
    """Objects that were missing for a while, and for how long at least one was seen to be."""
    kept = set(found.kept)
    gone: dict[str, list[float]] = {}
    for readback in case.evidence.readbacks:
        if readback.phase and readback.result == "missing" and readback.object in kept:
            gone.setdefault(readback.object, []).append(readback.t)
    found.stale = sorted(gone)
    for instants in gone.values():
        found.stale_s = max(found.stale_s, max(instants) - min(instants))


def _listed(listings: Iterable[Listing]) -> _Listed:
    pages = [listing for listing in listings if not listing.error]
    return _Listed(
        pages=len(pages),
        listed=sum(page.listed for page in pages),
        twice=sum(page.twice for page in pages),
        copies=sum(page.copies for page in pages),
        undeleted=sum(page.undeleted for page in pages),
        absent=sum(page.absent for page in pages),
        errors=tuple(listing.error for listing in listings if listing.error),
        names=tuple(name for page in pages for names in page.names.values() for name in names),
        undeleted_names=frozenset(n for page in pages for n in page.names.get("undeleted", ())),
    )


def _of_list(listed: _Listed) -> list[str]:
    wrong = [
        f"{n} {what}"
        for n, what in (
            (listed.twice, "listed twice"),
            (listed.copies, "stored under a second id"),
            (listed.undeleted, "deleted but listed"),
            (listed.absent, "acknowledged but not listed"),
        )
        if n
    ]
    if not wrong:
        return []
    shown = ", ".join(listed.names[:_SHOWN]) + (" …" if len(listed.names) > _SHOWN else "")
    return [f"of {listed.listed} listed: {', '.join(wrong)}: {shown}"]


def _sampled(case: Case) -> str:
    return f"{_percent(case.evidence.followed)} of the uploads were followed, chosen by a hash"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _round_up(share: float) -> float:
    """Up to one digit, so that the same sample passes what is shown."""
    unit = 10.0 ** math.floor(math.log10(share))
    return math.ceil(share / unit) * unit


def _because(found: _Found) -> str:
    parts = [f"{len(found.kept)} of {found.read} acknowledged uploads read back whole"]
    recovered = f", {len(found.recovered)} of them there" if found.recovered else ""
    for_s = f" (for {found.stale_s:.0f} s or more)" if found.stale_s >= 1 else ""
    for names, what in (
        (found.missing, "lost"),
        (found.altered, "altered"),
        (found.within_rpo, "missing within the RPO"),
        (found.not_read, "not read back"),
        (found.came_back, "deleted but found again"),
        (found.came_back_within_rpo, "deleted within the RPO but found again"),
        (found.unexpected, "refused but there"),
        (found.stale, f"missing for a while{for_s} and there at the end"),
        (found.unsure, f"unsure (timed out, either is right{recovered})"),
    ):
        if names:
            shown = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
            parts.append(f"{len(names)} {what}: {shown}")
    return "; ".join(parts)
