"""Pauses and resumes sending: disables and enables the event source mappings of the sender function, one for each lane.

While a mapping is disabled, messages wait in its queue, and their receive count does not grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from optus_sms.model.lanes import Lane

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

# A change takes a while; until then the state is the second of each pair. Other states belong to creation and deletion.
_ON: Final = ("Enabled", "Enabling")
_PAUSED: Final = ("Disabled", "Disabling")


class QueueSwitch:
    """The event source mappings in Lambda. It raises botocore's errors."""

    def __init__(self, client: LambdaClient, mapping_ids: Mapping[Lane, str]) -> None:
        self._client = client
        self._mapping_ids = mapping_ids

    def lanes(self) -> dict[Lane, bool | None]:
        """Return whether each lane is on; None in any other state."""
        return {lane: self._is_on(mapping_id) for lane, mapping_id in self._mapping_ids.items()}

    def is_on(self) -> bool | None:
        """Return whether sending is on: False if all lanes are paused, None if a lane's state is neither on nor off."""
        states = self.lanes().values()
        return None if None in states else any(states)

    def pause(self, lanes: Iterable[Lane] = Lane) -> None:
        """Pause lanes: messages wait in the queue."""
        self._set(lanes, enabled=False)

    def resume(self, lanes: Iterable[Lane] = Lane) -> None:
        """Resume lanes."""
        self._set(lanes, enabled=True)

    def _is_on(self, mapping_id: str) -> bool | None:
        state = self._client.get_event_source_mapping(UUID=mapping_id).get("State")
        return True if state in _ON else False if state in _PAUSED else None

    def _set(self, lanes: Iterable[Lane], *, enabled: bool) -> None:
        for lane in lanes:
            self._client.update_event_source_mapping(UUID=self._mapping_ids[lane], Enabled=enabled)
