"""The evidence of a response, for the gateway's support."""

from __future__ import annotations

from optus_sms.gateway.evidence import evidence_of
from optus_sms.gateway.transport import Exchange


def test_a_text_with_the_name_of_a_header_leaves_the_name() -> None:
    headers = {"retry-after": "2", "server": "Date", "date": "Thu"}
    exchange = Exchange(handed_over=True, status=403, headers=headers)
    assert evidence_of(exchange, content="Retry after the date") == "date: Thu; server: …"
