"""ReceiveCallbackFunction: a callback posted to `CallbackApi` → the tables → the HTTP response."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from optus_sms.aws import clients
from optus_sms.aws.queues import Queues
from optus_sms.flows.receive_callback import CallbackRequest, Receiver
from optus_sms.gateway.credentials import CallbackSecret
from optus_sms.model.opt_outs import OptOutWords
from optus_sms.model.times import Clock
from optus_sms.records.ledger import Ledger
from optus_sms.records.messages import Messages
from optus_sms.records.opt_outs import OptOuts
from optus_sms.runtime.observability import publish
from optus_sms.runtime.settings import ReceiveSettings, read_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@cache
def receiver() -> Receiver:
    """Return the objects of this execution environment, made at its first invocation."""
    settings, clock, dynamodb = read_settings(ReceiveSettings), Clock(), clients.dynamodb()
    return Receiver(
        ledger=Ledger.connect(dynamodb, settings.send_ledger_table_name),
        messages=Messages.connect(dynamodb, settings.messages_table_name, retention_days=settings.retention_days),
        opt_outs=OptOuts.connect(dynamodb, settings.opt_out_table_name),
        queues=Queues(clients.sqs(), dead_letter_queue_url=settings.dead_letter_queue_url),
        secret=CallbackSecret(clients.secrets_manager(), settings.callback_secret_id, clock.monotonic),
        clock=clock,
        reply_match_days=settings.reply_match_days,
        words=OptOutWords(settings.opt_out_words, settings.opt_in_words),
    )


def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Handle a request, and return the proxy response; HTTP 404 for any path but those of the two callbacks."""
    response = receiver().receive(CallbackRequest.from_event(event if isinstance(event, dict) else {}))
    publish(response.measurements)
    return response.to_proxy()
