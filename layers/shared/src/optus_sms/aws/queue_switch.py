"""Pauses and resumes sending: disables and enables the event source mapping of the sender function.

While it is disabled, messages wait in the queue and spend no receives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

# A change takes a while, and shows as the second of each pair first. Other states belong to creation and deletion.
_ON: Final = ("Enabled", "Enabling")
_PAUSED: Final = ("Disabled", "Disabling")


class QueueSwitch:
    """The event source mapping in Lambda. It raises botocore's errors."""

    def __init__(self, client: LambdaClient, mapping_id: str) -> None:
        self._client = client
        self._mapping_id = mapping_id

    def is_on(self) -> bool | None:
        """Return whether sending is on; None in any other state."""
        state = self._client.get_event_source_mapping(UUID=self._mapping_id).get("State")
        return True if state in _ON else False if state in _PAUSED else None

    def pause(self) -> None:
        """Pause sending: messages wait in the queue."""
        self._client.update_event_source_mapping(UUID=self._mapping_id, Enabled=False)

    def resume(self) -> None:
        """Resume sending."""
        self._client.update_event_source_mapping(UUID=self._mapping_id, Enabled=True)
