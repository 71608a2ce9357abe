"""The item `health#gateway` of `SendLedgerTable`: the gateway's health and the pause, kept from check to check.

It has three writers. The health check replaces the whole item, unless another writer changed it since it was read. An
operator's command always writes. The sender function writes only the doubt, after an unknown outcome.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optus_sms.model.lanes import Lane
from optus_sms.model.times import format_rfc3339
from optus_sms.records.items import (
    DOUBT_ATTRIBUTES,
    HEALTH_KEY,
    Doubt,
    Health,
    HealthRecord,
    Hold,
    PausedBy,
    doubt_attributes,
    hold_attribute,
    read_doubt,
)
from optus_sms.records.table import Refused, Table
from optus_sms.records.updates import NOTHING, Condition, absent, equals, greater

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Seconds before each of the first probes after an unknown outcome, and before every later one. With these numbers there
# are at most six in any hour.
PROBES_AFTER_SECONDS: Final = (2, 15, 60)
PROBE_SECONDS: Final = 900

IS_PAUSED_BY_HEALTH_CHECK: Final = equals(paused_by=PausedBy.HEALTH)
IS_NOT_PAUSED_BY_HEALTH_CHECK: Final = absent("paused_by") | ~IS_PAUSED_BY_HEALTH_CHECK
_PAUSE: Final = ("pause_reason", "pause_probing", "credentials_version")


class HealthRecords:
    """Reads and writes the item: one read and one write for each health check."""

    def __init__(self, table: Table) -> None:
        self._table = table

    @classmethod
    def connect(cls, client: DynamoDBClient, table_name: str) -> HealthRecords:
        """Return the records in the table of that name."""
        return cls(Table(client, table_name, key="pk"))

    def read(self) -> HealthRecord:
        """Return the record; a new one if there is no item."""
        return HealthRecord.from_item(self._table.get(HEALTH_KEY))

    def write(self, record: HealthRecord, *, seen: HealthRecord) -> bool:
        """Replace the record that was read; False if a check, an operator or a probe has written in between."""
        is_ours = seen.pause is not None and seen.pause.by is PausedBy.HEALTH
        item = record.to_item()
        refused = self._table.put(
            item,
            only_if=_still("checks", seen.checks)
            & _still("operator_commands", seen.operator_commands)
            & (IS_PAUSED_BY_HEALTH_CHECK if is_ours else IS_NOT_PAUSED_BY_HEALTH_CHECK)
            & _same(seen.doubt),
        )
        # If the SDK repeated a write whose response was lost, the refusing item is the one just written.
        return refused is None or refused.item == item

    # An operator's commands. Each write is unconditional, and makes the write of a check in flight fail.

    def pause_by_operator(self, lane: Lane | None = None, *, now: float) -> None:
        """Record an operator's pause, which no health check ends. Write this before sending is paused."""
        if lane is not None:
            hold = NOTHING.set(**{hold_attribute(lane): Hold.RECORDED.value}).add(operator_commands=1)
            self._table.update(HEALTH_KEY, hold)
            return
        pause = NOTHING.set(paused_by=PausedBy.OPERATOR, paused_at=format_rfc3339(now), pause_confirmed=False)
        self._table.update(HEALTH_KEY, pause.set(resuming=False).remove(*_PAUSE).add(operator_commands=1))

    def resume_by_operator(self, lane: Lane | None = None, *, now: float) -> None:
        """Record that an operator resumes. Write this before sending is resumed.

        If only one ``lane`` is resumed in a pause of both, the other stays paused until an operator resumes it too.
        Unless the gateway is known to be healthy, one message goes first, at once, as a probe. Messages that fail from
        the next whole minute on (CloudWatch counts by minute) cause another pause.
        """
        decides_since = (int(now) // 60 + 1) * 60
        resume = NOTHING.set(resuming=True, messages_decide_since=decides_since).add(operator_commands=1)
        seen = self.read()
        if seen.doubt or seen.state is not Health.HEALTHY:
            resume = resume.set(probe_after=int(now)).set_first(probes=0, doubted_since=int(now))
        for each in Lane:
            stays = lane not in (None, each) and (seen.pause is not None or each not in seen.free)
            resume = resume.set(**{hold_attribute(each): (Hold.RECORDED if stays else Hold.NONE).value})
        self._table.update(HEALTH_KEY, resume.remove("paused_by", "paused_at", "pause_confirmed", *_PAUSE))

    # The sender function's doubt

    def read_doubt(self) -> Doubt | None:
        """Return the doubt that an execution environment of the stack has recorded."""
        return read_doubt(self._table.get(HEALTH_KEY))

    def begin_doubt(self, *, now: float) -> Doubt:
        """Record that an outcome was unknown, unless that is recorded already; return the doubt."""
        doubt = Doubt(int(now) + PROBES_AFTER_SECONDS[0], 0, int(now))
        update = NOTHING.set(**doubt_attributes(doubt)).only_if(_same(None))
        found = self._table.update(HEALTH_KEY, update)
        return (read_doubt(found.item) if isinstance(found, Refused) else None) or doubt

    def claim_probe(self, doubt: Doubt, *, now: float) -> tuple[bool, Doubt | None]:
        """Claim the stack's next probe; return whether that succeeded, and the doubt after it.

        None: the doubt is over, because the outcome of a probe was certain.
        """
        if now < doubt.probe_after:
            return False, self.read_doubt()
        probes = doubt.probes + 1
        wait = PROBES_AFTER_SECONDS[probes] if probes < len(PROBES_AFTER_SECONDS) else PROBE_SECONDS
        claimed = Doubt(int(now) + wait, probes, doubt.since)
        found = self._table.update(HEALTH_KEY, NOTHING.set(**doubt_attributes(claimed)).only_if(_same(doubt)))
        return (False, read_doubt(found.item)) if isinstance(found, Refused) else (True, claimed)

    def return_probe(self, claimed: Doubt, *, now: float) -> Doubt:
        """Return a claim that was not used, or whose message was certainly not sent; return the doubt after that."""
        returned = Doubt(int(now), claimed.probes - 1, claimed.since)
        self._table.update(HEALTH_KEY, NOTHING.set(**doubt_attributes(returned)).only_if(_same(claimed)))
        return returned

    def end_doubt(self, claimed: Doubt) -> None:
        """Record that the outcome of the claimed probe was certain."""
        self._table.update(HEALTH_KEY, NOTHING.remove(*DOUBT_ATTRIBUTES).only_if(_same(claimed)))


def _still(name: str, number: int) -> Condition:
    return equals(**{name: number}) if number else ~greater(**{name: 0})


def _same(doubt: Doubt | None) -> Condition:
    if doubt is None:
        return ~greater(probe_after=0)
    return equals(probe_after=doubt.probe_after, probes=doubt.probes)
