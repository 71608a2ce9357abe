"""Pause and resume sending: the event source mapping between the outbound queue and the sender is disabled and enabled.

While it is disabled, messages wait in the queue and spend no receives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

# Lambda takes its time: a change shows as the second of each pair first. All other states are of creation and deletion.
_ON: Final = ("Enabled", "Enabling")
_PAUSED: Final = ("Disabled", "Disabling")


class QueueSwitch:
    """The mapping in Lambda; botocore's errors come through."""

    def __init__(self, client: LambdaClient, mapping_id: str) -> None:
        self._client = client
        self._mapping_id = mapping_id

    def is_on(self) -> bool | None:
        """Return whether messages flow to the sender; None in any state between."""
        state = self._client.get_event_source_mapping(UUID=self._mapping_id).get("State")
        return True if state in _ON else False if state in _PAUSED else None

    def pause(self) -> None:
        """Let messages wait in the queue."""
        self._client.update_event_source_mapping(UUID=self._mapping_id, Enabled=False)

    def resume(self) -> None:
        """Let messages flow to the sender."""
        self._client.update_event_source_mapping(UUID=self._mapping_id, Enabled=True)
