"""What became of every object written: lost, stale, unsure, undone, there twice; and what a
sample of them can show."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from harness.evidence.following import is_followed
from harness.evidence.model import Evidence, LedgerEntry, Listing, Readback, ReadbackPass
from harness.plan.objectives import parse_objective
from harness.verdict import Outcome, judge
from harness.verdict.case import Case
from harness.verdict.durability import judge_durability
from harness.verdict.landing import landing
from harness.verdict.model import Finding
from harness.verdict.proportions import at_most_probability, share_at_least, share_at_most
from harness.verdict.sufficiency import all_gaps
from tests.verdict.build import EAST, PHASES, T0, WEST, Day, plan

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
KEPT = "no upload lost or altered"
STRICT = "no write lost, altered, duplicated or undone"
LANDED = PHASES["fault:region"][0] + 0.5


def pages(**wrong: Any) -> tuple[Listing, ...]:
    figures = {"listed": 3, "twice": 0, "copies": 0, "undeleted": 0, "absent": 0, "names": {}}
    return (Listing(prefix="obj-", error="", **{**figures, **wrong}),)


def found(day: Day | Evidence, wording: str = KEPT, rpo_s: float = 0.0, **changes: Any) -> Finding:
    """The finding of one objective, worded so."""
    evidence = day.evidence() if isinstance(day, Day) else day
    case = Case(plan(), dataclasses.replace(evidence, **changes))
    objective = parse_objective(
        "durability", wording, text="d", faults=("region",), line=1, rpo_s=rpo_s
    )
    return judge_durability(case, objective, (landing(case, "region"),))


def ends(finding: Finding, outcome: Outcome, *words: str) -> None:
    assert finding.outcome is outcome, finding.because
    for said in words:
        assert said in finding.because


def more(day: Day, name: str, outcome: str, result: str | None, **changes: Any) -> Day:
    """One more upload, that the clients did not count as acknowledged, or besides what they did."""
    entry = dataclasses.replace(day.ledger[40], object=name, outcome=outcome, **changes)
    day.ledger.append(entry)
    if result:
        day.read_back(name, result)
    return day


def deleted(day: Day, name: str, outcome: str, result: str, offset: float = 30.0) -> Day:
    t = T0 + offset
    day.ledger.append(LedgerEntry("delete", name, "delete", "", 0, t, outcome, t, EAST, t))
    return day.read_back(name, result)


# ---- each fate by itself ---------------------------------------------------------------------


@pytest.mark.parametrize("result", ["missing", "altered"])
def test_an_acknowledged_upload_missing_or_altered_is_lost(result: str) -> None:
    finding = found(Day().read_back("obj-020", result))
    word = {"missing": "lost", "altered": "altered"}[result]
    ends(finding, FAIL, f"1 {word}: obj-020")
    assert finding.measured is not None
    assert (finding.measured.value, finding.measured.low, finding.measured.high) == (1, 1, 1)


@pytest.mark.parametrize("result", ["error", "perhaps", ""])
def test_one_that_was_not_read_is_neither_there_nor_lost(result: str) -> None:
    finding = found(Day().read_back("obj-020", result))
    ends(finding, UNKNOWN, "1 not read back: obj-020")
    assert finding.measured is not None
    assert (finding.measured.low, finding.measured.high) == (0, 1)


def test_one_nobody_asked_for_is_not_read() -> None:
    day = Day()
    del day.readbacks["obj-020"]
    ends(found(day), UNKNOWN, "1 not read back")


@pytest.mark.parametrize("result", ["present", "missing", "altered", "error"])
def test_an_unsure_upload_is_told_apart_whatever_became_of_it(result: str) -> None:
    finding = found(more(Day(), "unsure", "unsure", result))
    ends(finding, PASS, "1 unsure")
    assert ("1 of them there" in finding.because) == (result in ("present", "altered"))


def test_an_unsure_upload_acknowledged_at_last_must_be_there() -> None:
    day = more(Day(), "again", "unsure", "missing")
    for outcome in ("acked", "unsure"):
        day.ledger.append(dataclasses.replace(day.ledger[-1], outcome=outcome))
    ends(found(day), FAIL, "1 lost: again")


@pytest.mark.parametrize("result", ["present", "altered"])
def test_a_refused_upload_that_is_there_is_told(result: str) -> None:
    ends(found(more(Day(), "refused", "failed", result)), PASS, "1 refused but there: refused")
    assert "refused" not in found(more(Day(), "refused", "failed", "missing")).because


def test_a_deleted_object_is_rightly_gone() -> None:
    finding = found(deleted(Day(), "obj-020", "acked", "missing"), STRICT, listings=pages())
    ends(finding, PASS)
    assert "deleted" not in finding.because


@pytest.mark.parametrize("result", ["present", "altered"])
def test_a_deleted_object_found_again_is_told_and_fails_where_deletes_are_promised(
    result: str,
) -> None:
    day = deleted(Day(), "obj-020", "acked", result)
    ends(found(day), PASS, "1 deleted but found again: obj-020")
    ends(found(day, STRICT, listings=pages()), FAIL, "1 deleted but found again: obj-020")


def test_a_delete_within_the_recovery_point_may_be_undone() -> None:
    day = deleted(Day(), "obj-020", "acked", "present", offset=LANDED - 2)
    ends(found(day, STRICT, listings=pages()), FAIL)
    finding = found(day, STRICT, rpo_s=5.0, listings=pages())
    ends(finding, PASS, "1 deleted within the RPO but found again")
    listed = pages(undeleted=1, names={"undeleted": ("obj-020",)})
    ends(found(day, STRICT, rpo_s=5.0, listings=listed), PASS)
    ends(found(day, STRICT, rpo_s=1.0, listings=listed), FAIL)


@pytest.mark.parametrize("order", [1, -1])
def test_of_an_object_deleted_twice_both_deletes_must_lie_within_the_recovery_point(
    order: int,
) -> None:
    def twice(*before_s: float) -> Day:
        day = Day()
        for s in before_s[::order]:
            deleted(day, "obj-020", "acked", "present", offset=LANDED - s)
        return day

    ends(found(twice(2, 3), STRICT, rpo_s=5.0, listings=pages()), PASS)
    ends(found(twice(2, 9), STRICT, rpo_s=5.0, listings=pages()), FAIL)


@pytest.mark.parametrize("order", [1, -1])
def test_of_an_object_written_several_times_the_first_acknowledgement_counts(order: int) -> None:
    def written(result: str, *times: tuple[str, float]) -> Day:
        day = Day()
        for outcome, before_s in times[::order]:
            t = T0 + LANDED - before_s
            more(day, "again", outcome, result, ack_t=t, t=t, planned_t=T0 - 1.0)
        return day

    ends(found(written("missing", ("acked", 2), ("acked", 3)), rpo_s=5.0), PASS)
    ends(found(written("missing", ("acked", 2), ("acked", 9)), rpo_s=5.0), FAIL, "1 lost: again")
    ends(found(written("missing", ("acked", 9), ("unsure", 8), ("failed", 7))), FAIL)
    ends(found(written("present", ("failed", 9), ("unsure", 8))), PASS, "1 unsure")
    ends(found(written("present", ("failed", 8), ("unsure", 9))), PASS, "1 unsure")


@pytest.mark.parametrize(
    ("outcome", "result", "expected"),
    [
        ("unsure", "present", PASS),
        ("unsure", "missing", PASS),
        ("unsure", "altered", FAIL),
        ("failed", "present", PASS),
        ("failed", "missing", FAIL),
    ],
)
def test_what_a_delete_leaves_open(outcome: str, result: str, expected: Outcome) -> None:
    ends(found(deleted(Day(), "obj-020", outcome, result)), expected)


def test_deletes_that_could_not_be_asked_for_promise_nothing() -> None:
    day = deleted(Day(), "obj-020", "acked", "error")
    ends(found(day), PASS)
    ends(found(day, STRICT, listings=pages()), UNKNOWN, "1 deleted objects could not be asked")


@pytest.mark.parametrize("wrong", ["twice", "copies", "undeleted"])
def test_an_object_there_twice_or_undeleted_is_told_and_fails_where_that_is_promised(
    wrong: str,
) -> None:
    listed = pages(**{wrong: 1}, names={wrong: ("obj-7",)})
    told = {"twice": "1 listed twice", "copies": "1 stored under", "undeleted": "1 deleted but l"}
    ends(found(Day(), listings=listed), PASS, f"of 3 listed: {told[wrong]}", "obj-7")
    ends(found(Day(), STRICT, listings=listed), FAIL, told[wrong])


def test_an_acknowledged_object_that_is_not_listed_is_told() -> None:
    listed = pages(absent=2, names={"absent": ("a", "b")})
    ends(found(Day(), STRICT, listings=listed), PASS, "2 acknowledged but not listed: a, b")


def test_where_nothing_could_be_listed_duplicates_cannot_be_told() -> None:
    ends(found(Day(), STRICT, listings=()), UNKNOWN, "the service's list: not looked at")
    broken = (*pages(), dataclasses.replace(pages()[0], error="status-503"))
    ends(found(Day(), STRICT, listings=broken), UNKNOWN, "the service's list: status-503")
    ends(found(Day(), listings=broken), PASS)


@pytest.mark.parametrize(
    ("before_s", "outcome"), [(6.0, FAIL), (4.9, PASS), (0.0, PASS), (-0.05, PASS), (-0.2, FAIL)]
)
def test_the_recovery_point_spares_what_was_acknowledged_just_before_the_landing(
    before_s: float, outcome: Outcome
) -> None:
    t = T0 + LANDED - before_s
    day = more(Day(), "late", "acked", "missing", ack_t=t, t=t)
    ends(found(day, rpo_s=5.0), outcome)
    ends(found(day), FAIL)


def test_uploads_the_clients_counted_and_nobody_followed_are_missed() -> None:
    day = Day()
    del day.ledger[40]
    ends(found(day), UNKNOWN, "246 uploads were acknowledged, and 245 are in the ledger")
    ends(found(day, STRICT, listings=pages()), UNKNOWN)


def test_the_first_objects_do_not_stand_for_uploads_that_were_counted() -> None:
    day = more(Day(), "warm-up", "acked", "present", planned_t=T0 - 3.0)
    ends(found(day), PASS)
    del day.ledger[40]
    ends(found(day), UNKNOWN, "and 245 are in the ledger")


def test_nothing_read_is_no_durability() -> None:
    evidence = dataclasses.replace(Day().evidence(), tallies=(), ledger=(), readbacks=())
    ends(found(evidence), UNKNOWN, "0 of 0")
    ends(found(evidence, "at most 1 % lost, 95 % confident"), UNKNOWN)


# ---- while the traffic ran ---------------------------------------------------------------------


def seen(
    day: Day, result: str, *names: str, phase: str = "fault:region", region: str = WEST,
    offset: float = 85.0,
) -> Evidence:  # fmt: skip
    """The day, with these objects asked for during a phase."""
    evidence = day.evidence()
    asked = tuple(
        Readback(name, result, region, "", phase, T0 + offset + n, 1)
        for n, name in enumerate(names)
    )
    earlier = [p for p in evidence.passes if p.phase != phase]
    passes = (*earlier, ReadbackPass(phase, len(asked), len(asked), T0 + 94.0))
    return dataclasses.replace(evidence, readbacks=(*evidence.readbacks, *asked), passes=passes)


def test_missing_for_a_while_and_there_again_is_a_figure_of_its_own() -> None:
    ends(found(seen(Day(), "missing", "obj-020")), PASS, "1 missing for a while and there")


def test_how_long_one_was_seen_to_be_missing_is_told() -> None:
    evidence = seen(Day(), "missing", "obj-020", "obj-020")
    later = Readback("obj-020", "missing", WEST, "", "recovery:region", T0 + 97.0, 1)
    evidence = dataclasses.replace(evidence, readbacks=(*evidence.readbacks, later))
    ends(found(evidence), PASS, "missing for a while (for 12 s or more)")


def test_one_missing_at_the_end_too_is_lost_and_not_stale() -> None:
    finding = found(seen(Day().read_back("obj-020", "missing"), "missing", "obj-020"))
    ends(finding, FAIL, "1 lost: obj-020")
    assert "for a while" not in finding.because


def test_one_seen_during_the_run_only_was_not_read_at_the_end() -> None:
    day = Day()
    del day.readbacks["obj-020"]
    ends(found(seen(day, "present", "obj-020")), UNKNOWN, "1 not read back")


def test_the_recovery_point_is_told_in_objects_and_seconds_beside_the_lag() -> None:
    day = Day()
    day.see("replication", 20, "replication:files", {"pending": 1, "lag_s": 9.0})
    day.see("replication", 70, "replication:files", {"pending": 3, "lag_s": 1.5})
    day.see("replication", 80, "replication:files", {"pending": 99, "lag_s": 30.0})
    day.see("db_lag", 70, "db_lag:files-west", 0.2)
    evidence = seen(day, "missing", "obj-073", "obj-074")
    evidence = seen_too(evidence, "present", "obj-070", "obj-060")
    # Acknowledged at 73.26; landed between 76.50 and 76.55.
    ends(
        found(evidence),
        PASS,
        "recovery point of region: 2 of 4 asked for after it were missing, the oldest "
        "acknowledged 3.3 s before it landed",
        "(replication behind just before: objects 1.5 s, database 0.2 s)",
    )


def seen_too(evidence: Evidence, result: str, *names: str) -> Evidence:
    asked = tuple(Readback(n, result, WEST, "", "fault:region", T0 + 90.0, 1) for n in names)
    return dataclasses.replace(evidence, readbacks=(*evidence.readbacks, *asked))


def test_where_the_oldest_asked_for_is_missing_the_recovery_point_may_lie_further_back() -> None:
    ends(found(seen(Day(), "missing", "obj-073")), PASS, "3.3 s or more before it landed")


@pytest.mark.parametrize(
    ("before_s", "said"),
    [(0.41, "acknowledged 0.5 s or more"), (0.01, "0.1 s"), (-0.04, "0.0 s"), (0.17, "0.2 s")],
)
def test_a_recovery_point_of_moments_is_no_less_than_nothing(before_s: float, said: str) -> None:
    t = T0 + LANDED - before_s
    day = more(Day(), "late", "acked", "present", ack_t=t, t=t)
    ends(found(seen(day, "missing", "late")), PASS, said)


def lasting(s: float) -> Day:
    """The day, with a call that took so long to make the region's fault."""
    day = Day()
    for index, event in enumerate(day.events):
        if event.kind == "fault.made" and event.text("fault") == "region":
            data = {**event.data, "call_end_t": T0 + LANDED + s}
            day.events[index] = dataclasses.replace(event, data=data)
    return day


def test_a_landing_that_lasted_makes_the_recovery_point_an_interval() -> None:
    brief = seen(lasting(0.15), "missing", "obj-073")
    ends(found(brief), PASS, "acknowledged 3.2 to 3.4 s or more")
    day = lasting(0.5)
    ends(found(seen(day, "missing", "obj-073")), PASS, "acknowledged 3.2 to 3.7 s or more")
    t = T0 + LANDED + 0.2
    day = more(day, "meanwhile", "acked", "present", ack_t=t)
    ends(found(seen(day, "missing", "meanwhile")), PASS, "acknowledged 0.0 to 0.3 s or more")


def test_where_all_were_there_the_recovery_point_says_so() -> None:
    ends(found(seen(Day(), "present", "obj-073")), PASS, "all of 1 asked for after it were there")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("obj-077", {}),  # acknowledged after the landing
        ("obj-073", {"region": EAST}),  # the side that was lost says it has not got it
        ("obj-073", {"phase": "recovery:zone"}),
    ],
)
def test_what_says_nothing_of_the_other_side_is_no_recovery_point(
    name: str, changes: dict[str, Any]
) -> None:
    assert "recovery point" not in found(seen(Day(), "missing", name, **changes)).because


def test_a_deleted_object_is_no_recovery_point() -> None:
    day = deleted(Day(), "obj-073", "unsure", "missing")
    assert "recovery point" not in found(seen(day, "missing", "obj-073")).because


def test_a_fault_that_never_landed_has_no_recovery_point() -> None:
    day = Day(landed=False)
    assert "recovery point" not in found(seen(day, "missing", "obj-073")).because


# ---- read-back as evidence -----------------------------------------------------------------------


def test_a_read_back_that_was_to_be_and_is_not_is_a_gap() -> None:
    day = Day()
    day.events[0] = dataclasses.replace(
        day.events[0], data={**day.events[0].data, "readbacks": ["fault:region"]}
    )
    gaps = all_gaps(Case(plan(), day.evidence()))
    assert [gap.detail for gap in gaps] == ["no upload was read back during fault:region"]
    assert not all_gaps(Case(plan(), seen(day, "present", "obj-020")))


def test_an_answer_that_is_missing_is_a_gap() -> None:
    evidence = seen(Day(), "present", "obj-020", "obj-021")
    fewer = dataclasses.replace(evidence, readbacks=evidence.readbacks[:-1])
    [gap] = all_gaps(Case(plan(), fewer))
    assert gap.detail == "2 uploads asked for during fault:region, 1 answers"
    assert judge(plan(), fewer).outcome is UNKNOWN


def test_read_back_during_the_run_is_a_client_too() -> None:
    def difference(evidence: Evidence) -> float:
        verdict = judge(plan(), evidence)
        [finding] = [f for f in verdict.findings if f.objective.startswith("agreement")]
        assert finding.measured is not None
        assert finding.measured.value is not None
        return finding.measured.value

    plain = difference(Day().evidence())
    within = seen(Day(), "present", *["obj-001"] * 20, phase="recovery:pod", offset=5.0)
    after = seen(Day(), "present", *["obj-001"] * 20, phase="recovery:pod", offset=60.0)
    # One of 50 arrivals for each of 40 seconds; 20 answers more are 1 %.
    assert difference(within) == pytest.approx(plain - 0.01, abs=1e-3)
    assert difference(after) == plain


# ---- samples -----------------------------------------------------------------------------------


def sampled(share: float, *lost: str) -> Evidence:
    """A day of which a share of the uploads is followed."""
    day = Day()
    for name in lost:
        day.read_back(name, "missing")
    evidence = day.evidence()
    return dataclasses.replace(
        evidence,
        followed=share,
        ledger=tuple(e for e in evidence.ledger if is_followed(e.object, share)),
        readbacks=tuple(r for r in evidence.readbacks if is_followed(r.object, share)),
    )


FOLLOWED = [f"obj-{n:03}" for n in range(76) if is_followed(f"obj-{n:03}", 0.5)]


def test_nothing_lost_of_a_sample_is_no_proof_that_nothing_was_lost() -> None:
    finding = found(sampled(0.5))
    ends(finding, UNKNOWN, "50 % of the uploads were followed, chosen by a hash: at most")
    n = len(sampled(0.5).readbacks)
    assert f"at most {share_at_most(0, n, 0.95) * 100:.3g} % of all were lost" in finding.because
    assert finding.measured is not None
    assert (finding.measured.low, finding.measured.high) == (0, None)


def test_the_wording_proposed_to_one_who_has_a_sample_passes_by_it() -> None:
    because = found(sampled(0.5)).because
    wording = because.partition("`durability: ")[2].partition("`")[0]
    ends(found(sampled(0.5), wording), PASS)


def test_one_lost_of_a_sample_is_lost_all_the_same() -> None:
    ends(found(sampled(0.5, FOLLOWED[0])), FAIL, "1 lost")


def test_a_share_of_a_sample_is_judged_by_both_its_bounds() -> None:
    lost = FOLLOWED[:6]
    n = len(sampled(0.5).readbacks)
    low, high = share_at_least(6, n, 0.95), share_at_most(6, n, 0.95)
    finding = found(sampled(0.5, *lost), "at most 5 % lost, 95 % confident")
    ends(finding, UNKNOWN, "each bound 95 % confident")
    assert finding.measured is not None
    assert (finding.measured.low, finding.measured.high) == (low, high)
    ends(found(sampled(0.5, *lost), "at most 12 % lost, 95 % confident"), PASS)
    ends(found(sampled(0.5, *lost), "at most 1.5 % lost, 95 % confident"), FAIL)
    # Wider where one wants to be surer.
    ends(found(sampled(0.5, *lost), "at most 1.5 % lost, 99.9 % confident"), UNKNOWN)


def test_where_all_are_followed_the_share_is_known() -> None:
    day = Day().read_back("obj-020", "missing")
    share = 100 / len(day.readbacks)
    finding = found(day, "at most 1 % lost, 95 % confident")
    ends(finding, PASS)
    assert finding.measured is not None
    assert finding.measured.low == finding.measured.high == pytest.approx(share / 100)
    ends(found(day, "at most 0.4 % lost, 95 % confident"), FAIL)


def test_one_that_was_not_read_may_be_lost() -> None:
    day = Day().read_back("obj-020", "error")
    ends(found(day, "at most 0.4 % lost, 95 % confident"), UNKNOWN)
    ends(found(day, "at most 1 % lost, 95 % confident"), PASS)


def test_fewer_in_a_sampled_ledger_than_chance_allows_are_missed() -> None:
    evidence = sampled(0.5)
    ends(found(evidence, "at most 5 % lost, 95 % confident"), PASS)
    fewer = dataclasses.replace(evidence, ledger=evidence.ledger[: len(evidence.ledger) // 2])
    ends(found(fewer, "at most 5 % lost, 95 % confident"), UNKNOWN, "are in the ledger")


def test_what_chance_allows_is_five_standard_deviations() -> None:
    evidence = sampled(0.5)
    acked = tuple(entry for entry in evidence.ledger if entry.outcome == "acked")
    least = 0.5 * 246 - 5 * math.sqrt(246 * 0.5 * 0.5)
    for written, is_missed in ((math.ceil(least), False), (math.floor(least), True)):
        some = dataclasses.replace(evidence, ledger=acked[:written])
        assert ("are in the ledger" in found(some).because) == is_missed


def test_one_of_a_sample_that_was_not_read_makes_its_bound_wider() -> None:
    evidence = sampled(0.5)
    readbacks = tuple(
        dataclasses.replace(r, result="error") if r.object == FOLLOWED[0] else r
        for r in evidence.readbacks
    )
    n = len(evidence.readbacks)
    bound = f"at most {share_at_most(1, n, 0.95) * 100:.3g} % of all were lost"
    ends(found(dataclasses.replace(evidence, readbacks=readbacks)), UNKNOWN, bound)
    both = dataclasses.replace(sampled(0.5, FOLLOWED[1]), readbacks=())
    ends(found(both), UNKNOWN, "at most 100 % of all were lost", "at most 100 % lost, 95 %")


def test_the_share_lost_is_shown_between_its_bounds() -> None:
    finding = found(sampled(0.5, *FOLLOWED[:3]), "at most 5 % lost, 95 % confident")
    assert finding.measured is not None
    n = len(sampled(0.5).readbacks)
    assert finding.measured.value == pytest.approx(3 / n)
    assert finding.measured.low is not None
    assert finding.measured.high is not None
    assert finding.measured.low < 3 / n < finding.measured.high


# ---- what is said ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wording", "required"),
    [
        (KEPT, "0 acknowledged uploads missing or altered"),
        (STRICT, "0 acknowledged uploads missing, altered or there twice, 0 deletes undone"),
        (
            "at most 0.1 % lost, 95 % confident",
            "≤ 0.1 % of the acknowledged uploads missing or altered, 95 % confident",
        ),
    ],
)
def test_what_is_required_is_said(wording: str, required: str) -> None:
    assert found(Day(), wording).required == required
    assert found(Day(), wording, rpo_s=5.0).required == f"{required}, save those of the last 5 s"


def test_three_names_are_shown_and_of_more_that_there_are_more() -> None:
    day = Day()
    for number in range(3):
        day.read_back(f"obj-{number:03}", "missing")
    because = found(day).because
    assert "3 lost: obj-000, obj-001, obj-002" in because
    assert "…" not in because
    assert (
        "4 lost: obj-000, obj-001, obj-002 …" in found(day.read_back("obj-003", "missing")).because
    )
    for names, shown in ((("a", "b", "c"), "a, b, c"), (("a", "b", "c", "d"), "a, b, c …")):
        listed = pages(twice=len(names), names={"twice": names})
        assert found(Day(), listings=listed).because.endswith(f"listed twice: {shown}")


def test_without_an_instant_of_acknowledgement_that_of_the_line_counts() -> None:
    day = more(Day(), "late", "acked", "missing", ack_t=None, t=T0 + LANDED - 2)
    ends(found(day, rpo_s=5.0), PASS, "1 missing within the RPO: late")
    ends(found(day, rpo_s=1.0), FAIL)
    day = more(Day(), "late", "acked", "missing", ack_t=T0 + LANDED - 2, t=T0 + LANDED - 9)
    ends(found(day, rpo_s=5.0), PASS)
    with_none = more(Day(), "late", "acked", "present", ack_t=None, t=T0 + LANDED - 2)
    ends(found(seen(with_none, "missing", "late")), PASS, "acknowledged 2.0 s or more")


def test_what_is_missing_within_the_recovery_point_is_among_those_read() -> None:
    day = more(Day(), "late", "acked", "missing", ack_t=T0 + LANDED - 0.2)
    ends(found(day, rpo_s=0.5), PASS, "246 of 247 acknowledged", "1 missing within the RPO")


@pytest.mark.parametrize("ack_t", [T0 + LANDED - 5.0, T0 + LANDED + 0.05])
def test_the_recovery_point_holds_at_both_its_ends(ack_t: float) -> None:
    day = more(Day(), "late", "acked", "missing", ack_t=ack_t)
    ends(found(day, rpo_s=5.0), PASS, "1 missing within the RPO")
    day = more(Day(), "late", "acked", "present", ack_t=ack_t)
    ends(found(seen(day, "missing", "late")), PASS, "recovery point of region: 1 of 1")


def test_an_unsure_object_that_was_not_read_leaves_no_delete_open() -> None:
    day = more(Day(), "unsure", "unsure", "error")
    ends(found(day, STRICT, listings=pages()), PASS)


def test_of_two_generators_that_begin_apart_every_upload_counts() -> None:
    evidence = Day().evidence()
    [one] = evidence.tallies
    later = dataclasses.replace(one, seconds=(), start={"start_t": T0 + 60.0})
    both = dataclasses.replace(evidence, tallies=(later, one))
    ends(found(both), PASS)


def test_an_upload_of_the_very_first_instant_counts() -> None:
    day = Day()
    day.ledger = [
        dataclasses.replace(e, planned_t=T0 + 0.0) if e.object == "obj-000" else e
        for e in day.ledger
    ]
    ends(found(day), PASS)


def test_the_longest_for_which_any_was_missing_is_told() -> None:
    evidence = seen(Day(), "missing", "obj-020", "obj-021", "obj-020")  # 0, 1 and 2 s
    ends(found(evidence), PASS, "2 missing for a while (for 2 s or more)")
    evidence = seen(Day(), "missing", "obj-020", "obj-020")
    ends(found(evidence), PASS, "1 missing for a while (for 1 s or more)")
    once = found(seen(Day(), "missing", "obj-020"))
    ends(once, PASS, "1 missing for a while and there at the end")


def test_the_wording_proposed_is_a_round_figure() -> None:
    n = len(sampled(0.5).readbacks)
    assert 0.02 < share_at_most(0, n, 0.95) < 0.03
    assert "`durability: at most 3 % lost, 95 % confident`" in found(sampled(0.5)).because
    assert share_at_most(1, n, 0.95) < 0.04
    evidence = sampled(0.5, FOLLOWED[0])
    assert "`durability: at most 4 % lost, 95 % confident`" in found(evidence).because


def test_the_share_of_one_not_read_is_of_all_that_were_to_be_read() -> None:
    day = Day().read_back("obj-020", "error").read_back("obj-021", "missing")
    finding = found(day, "at most 0.4 % lost, 95 % confident")
    assert finding.measured is not None
    n = len(day.readbacks)
    assert finding.measured.low == finding.measured.value == pytest.approx(1 / n)
    assert finding.measured.high == pytest.approx(2 / n)


def test_that_uploads_are_not_in_the_ledger_is_said_before_other_doubts() -> None:
    day = Day()
    del day.ledger[40]
    ends(found(day, STRICT), UNKNOWN, "are in the ledger; whether one is there twice")


# ---- the bounds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 10, 1000, 40_000])
def test_the_bound_for_none_found_is_the_exact_one_and_near_three_over_n(n: int) -> None:
    bound = share_at_most(0, n, 0.95)
    assert bound == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-9)
    if n >= 10:
        assert bound == pytest.approx(3 / n, rel=0.15)


def test_the_bounds_are_those_of_clopper_and_pearson() -> None:
    # 5 of 100: the two-sided interval at 90 % has these one-sided bounds at 95 %.
    assert share_at_most(5, 100, 0.95) == pytest.approx(0.10225, abs=1e-4)
    assert share_at_least(5, 100, 0.95) == pytest.approx(0.01991, abs=1e-4)
    assert share_at_least(0, 100, 0.95) == 0.0
    assert share_at_most(100, 100, 0.95) == 1.0
    assert share_at_least(100, 100, 0.95) == pytest.approx(0.05 ** (1 / 100))
    assert (share_at_least(0, 0, 0.95), share_at_most(0, 0, 0.95)) == (0.0, 1.0)


def test_the_probability_of_few_is_the_sum_of_the_binomial() -> None:
    exact = sum(math.comb(20, k) * 0.3**k * 0.7 ** (20 - k) for k in range(5))
    assert at_most_probability(4, 20, 0.3) == pytest.approx(exact)
    assert at_most_probability(20, 20, 0.3) == 1.0
    assert at_most_probability(3, 20, 0.0) == 1.0
    assert at_most_probability(3, 20, 1.0) == 0.0
    assert at_most_probability(-1, 20, 0.5) == 0.0


# ---- the wording ---------------------------------------------------------------------------------


def parsed(wording: str) -> Any:
    return parse_objective("durability", wording, text="d", faults=(), line=1)


def test_each_wording_says_what_is_promised() -> None:
    assert (parsed(KEPT).strict, parsed(KEPT).confidence) == (False, 0.0)
    assert (parsed(STRICT).strict, parsed(STRICT).confidence) == (True, 0.0)
    some = parsed("at most 0.1 % lost, 95 % confident")
    assert (some.strict, some.at_most, some.confidence) == (False, 0.001, 0.95)


@pytest.mark.parametrize(
    "wording",
    [
        "no upload lost", "at most 0.1 % lost", "at most 0.1 lost, 95 % confident",
        "at most 0.1 % lost, 100 % confident", "at most 0.1 % lost, 5 % confident",
        "at most 0.1 % lost, 95 confident",
    ],
)  # fmt: skip
def test_a_wording_that_promises_nothing_clear_is_refused(wording: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parsed(wording)
