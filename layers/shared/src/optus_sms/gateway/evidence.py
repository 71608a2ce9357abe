"""Evidence for the gateway's support to find an attempt: kept in ledger and dead letter, shown by `explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optus_sms.model.redaction import printable, without_numbers, without_words

if TYPE_CHECKING:
    from optus_sms.gateway.transport import Exchange

_MOST_BODY: Final = 300  # characters: the gateway's error bodies are shorter, and the start of a proxy's page is enough
_MOST_HEADER: Final = 100
_MOST: Final = 700


def evidence_of(exchange: Exchange, *, content: str) -> str:
    """Return one line of the response's headers that identify it, and the start of its body.

    ``content``: the message's text. Its words are removed from the line, and phone numbers from the body, because the
    ledger must hold neither. Empty if no response came.
    """
    headers = sorted(exchange.headers.items())
    facts = {name: without_words(printable(value, _MOST_HEADER), content) for name, value in headers}
    body = (exchange.body or b"").decode("utf-8", "replace")
    line = "; ".join(f"{name}: {fact}" for name, fact in facts.items() if name != "retry-after")
    start = without_numbers(without_words(" ".join(body.split()), content))
    if start:
        line = f"{line}; body: {printable(start, _MOST_BODY)}" if line else f"body: {printable(start, _MOST_BODY)}"
    return line[:_MOST]
