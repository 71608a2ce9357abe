"""The valve between the outbound queue and the sender: the queue's event source mapping, on or off.

While it is off, messages wait in the queue and spend no receives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

# Lambda takes its time: a change shows as the second of each pair first. All other states are of creation and deletion.
_OPEN: Final = ("Enabled", "Enabling")
_SHUT: Final = ("Disabled", "Disabling")


class QueueSwitch(Protocol):
    """What the health check needs."""

    def is_open(self) -> bool | None:
        """Whether messages flow; None while that can't be told."""

    def turn(self, *, open_: bool) -> None:
        """Let messages flow, or let them wait."""


class EventSourceSwitch:
    """The mapping in Lambda; botocore's errors come through."""

    def __init__(self, client: LambdaClient, mapping_id: str) -> None:
        self._client = client
        self._mapping_id = mapping_id

    def is_open(self) -> bool | None:
        """See `QueueSwitch.is_open`."""
        state = self._client.get_event_source_mapping(UUID=self._mapping_id).get("State")
        return True if state in _OPEN else False if state in _SHUT else None

    def turn(self, *, open_: bool) -> None:
        """See `QueueSwitch.turn`."""
        self._client.update_event_source_mapping(UUID=self._mapping_id, Enabled=open_)
