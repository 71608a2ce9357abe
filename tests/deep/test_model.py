"""Every reachable state of the send protocol keeps the promises, and each of the protocol's lines is needed."""

from __future__ import annotations

import pytest

from tests.deep.model import LANES, URGENT, Report, Rules, Setting, explore

HOLD = Setting("hold", faults=1)
RESEND = Setting("resend", faults=1, redrives=0)
SHARED_REFERENCE = Setting("hold", faults=1, shared_reference=True)
FOREIGN_REFERENCE = Setting("hold", faults=1, redrives=0, foreign_reference=True)
RECALL = Setting("hold", faults=1, redrives=0, recalls=1)
EXPIRY = Setting("hold", faults=1, redrives=0, may_expire=True)
OPT_OUT = Setting("hold", faults=1, redrives=0, opts_out=True)
STATUSES = Setting("hold", faults=1, redrives=0, statuses=2)
BOTH_LANES = Setting("hold", faults=1, redrives=0, lanes=LANES)
BOTH_LANES_REDRIVEN = Setting("hold", faults=0, redrives=1, lanes=LANES)
PAUSED_LANE = Setting("hold", faults=0, redrives=0, lanes=LANES, pauses=1)
URGENT_LANE = Setting("hold", faults=1, lanes=(URGENT,))
SETTINGS = {
    "hold": HOLD,
    "resend": RESEND,
    "shared reference": SHARED_REFERENCE,
    "foreign reference": FOREIGN_REFERENCE,
    "expiry": EXPIRY,
    "recall": RECALL,
    "opt-out": OPT_OUT,
    "status order": STATUSES,
    "both lanes": BOTH_LANES,
    "both lanes, redriven": BOTH_LANES_REDRIVEN,
    "paused lane": PAUSED_LANE,
}

# The line that is left out, and the setting in which that breaks a promise.
SEEDED_BUGS = {
    "claim_is_conditional": HOLD,
    "unknown_is_held": HOLD,
    "lapse_is_unknown": HOLD,
    "lease_outlives_owner": HOLD,
    "own_claim_is_recognised": HOLD,
    "acceptance_wins": HOLD,
    "copy_before_ack": HOLD,
    "copy_is_repaired": HOLD,
    "outcome_is_written_before_ack": HOLD,
    "row_before_removal": HOLD,
    "resends_are_counted": RESEND,
    "resend_is_conditional": RESEND,
    "one_id_for_a_record": RESEND,
    "unknown_once_is_never_certain": RESEND,
    "row_is_repaired": SHARED_REFERENCE,
    "ambiguous_reference_proves_nothing": SHARED_REFERENCE,
    "only_what_may_have_been_sent_is_proved": FOREIGN_REFERENCE,
    "certainly_not_sent_corrects_a_callback": FOREIGN_REFERENCE,
    "open_claim_is_waited_for": FOREIGN_REFERENCE,
    "rank_decides": STATUSES,
    "recall_is_conditional": RECALL,
    "recalled_is_final": RECALL,
    "recall_before_deletion": RECALL,
    "opt_out_is_read_after_claim": OPT_OUT,
    "opt_out_is_read_each_time": OPT_OUT,
    "unread_opt_out_waits": OPT_OUT,
    "opt_out_is_remembered": OPT_OUT,
    "one_key_for_both_lanes": BOTH_LANES,
    "lane_is_acknowledged": BOTH_LANES,
    "lane_is_remembered": URGENT_LANE,
    "lanes_pause_apart": PAUSED_LANE,
}
FENCE = {"owner_is_checked", "attempt_is_checked"}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))
def test_protocol_keeps_its_promises(setting: Setting) -> None:
    report = explore(Rules(), setting)
    _tell(report, setting)
    assert report.violation is None, _story(report)
    assert report.states >= 5_000


@pytest.mark.deep
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "setting",
    [
        Setting("hold", faults=2),
        Setting("resend", faults=1),
        Setting("resend", faults=2, redrives=0),
        Setting("resend", faults=1, redrives=0, may_expire=True),
        Setting("resend", faults=1, redrives=0, recalls=1),
        Setting("hold", faults=2, recalls=2),
        Setting("hold", faults=3, redrives=0),
        Setting("hold", faults=2, may_expire=True),
        Setting("resend", faults=1, redrives=0, opts_out=True),
        Setting("hold", faults=1, opts_out=True),
        Setting("resend", faults=1, may_expire=True, shared_reference=True),
        Setting("hold", faults=1, lanes=LANES),
        Setting("hold", faults=1, redrives=0, lanes=LANES, pauses=1),
        Setting("hold", faults=0, lanes=LANES, pauses=2),
    ],
    ids=str,
)
def test_protocol_keeps_its_promises_with_more_faults(setting: Setting) -> None:
    report = explore(Rules(), setting)
    _tell(report, setting)
    assert report.violation is None, _story(report)


@pytest.mark.parametrize("rule", SEEDED_BUGS)
def test_each_rule_is_needed(rule: str) -> None:
    report = explore(Rules(**{rule: False}), SEEDED_BUGS[rule])
    assert report.violation is not None


def test_outcomes_are_fenced() -> None:
    """Each claim has its own owner and attempt, so either check is enough; without both, two workers send at once."""
    assert explore(Rules(**dict.fromkeys(FENCE, False)), RESEND).violation is not None
    for rule in FENCE:
        assert explore(Rules(**{rule: False}), RESEND).violation is None


def test_every_rule_has_its_bug() -> None:
    assert set(SEEDED_BUGS) | FENCE == set(Rules.__dataclass_fields__)


def _tell(report: Report, setting: Setting) -> None:
    print(f"{report.states} states, {report.steps} steps: {setting}")  # noqa: T201 - shown with -s or on failure


def _story(report: Report) -> str:
    assert report.violation is not None
    return f"broken: {report.violation.promise}\n" + "\n".join(report.violation.trace)
