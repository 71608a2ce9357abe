"""Enables and disables the local event source when Lambda's API enables and disables its mapping."""

import logging
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.aws.background_thread import BackgroundThread
from local.aws.event_source import EventSource

LOOK_EVERY_SECONDS = 0.5
"""Lambda itself needs seconds."""

log = logging.getLogger(__name__)


class MappingSwitch(BackgroundThread):
    """Reads a source's mapping, and applies each change to the source and to `turned`, in its own thread.

    `lambda_client`: without retries. Only changes are applied, so that a test can switch the source directly.
    """

    def __init__(self, source: EventSource, lambda_client: Any, turned: Callable[[bool], None]) -> None:
        super().__init__("mapping switch")
        self._source = source
        self._client = lambda_client
        self._turned = turned
        self._last = source.config.enabled

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_SECONDS):
            try:
                mapping = self._client.get_event_source_mapping(UUID=self._source.config.mapping_id)
            except (BotoCoreError, ClientError) as error:
                if not self._stopping.is_set():  # the emulator ends before this thread
                    log.warning("the event source mapping cannot be read: %s", error)
                continue
            if "State" not in mapping:  # the emulator is ending
                continue
            enabled = mapping["State"] == "Enabled"
            if enabled != self._last:
                self._last = self._source.enabled = enabled
                self._turned(enabled)
