"""Post unreadable callbacks again, as the gateway did, after the cause was corrected."""

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final

from cli.callback_secret import callback_secret
from cli.dead_letter_queue import DeadLetterQueue, ReceivedDeadLetter
from cli.target import Target
from optus_sms.flows.receive_callback import KEPT, CallbackRoute
from optus_sms.gateway.transport import Exchange, Transport
from optus_sms.model.callbacks import in_pieces, parse_callbacks
from optus_sms.model.errors import UnreadableCallbackError

_SECONDS: Final = 30.0
_AT_ONCE: Final = 20  # callbacks in each request, for an array with more of them
_CHARSET: Final = re.compile(r"[A-Za-z0-9._:-]{1,40}")
_OUTPUTS: Final = {CallbackRoute.STATUS: "StatusCallbackUrl", CallbackRoute.REPLY: "ReplyCallbackUrl"}


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result for one callback: `stored`, `unreadable`, `kept again` or `not posted`."""

    sqs_id: str
    since: str
    result: str
    why: str = ""


def replay(target: Target, callbacks: Iterable[ReceivedDeadLetter], queue: DeadLetterQueue) -> Iterator[Replayed]:
    """Post each callback that this version can read, and delete its dead letter once the stack has it.

    If the stack can't read one, it makes a new dead letter. Ends at the first callback that gets no response.
    """
    secret = callback_secret(target)
    credentials = base64.b64encode(f"{secret['username']}:{secret['password']}".encode()).decode()
    with closing(Transport()) as transport:
        for callback in callbacks:
            body, problem = _readable(callback)
            if problem:
                yield _result(callback, "unreadable", problem)
                continue
            pieces = in_pieces(body, charset=callback.charset, size=_AT_ONCE)
            content_type = _content_type(callback) if len(pieces) == 1 else "application/json"
            post = partial(
                transport.exchange,
                "POST",
                target.outputs[_OUTPUTS[_route(callback)]],
                headers={"Authorization": f"Basic {credentials}", "Content-Type": content_type},
                seconds=_SECONDS,
            )
            response = _posted(post, pieces)
            if response.status == 200:
                queue.delete(callback)
            yield _judged(callback, response)
            if response.status is None:
                return


def _posted(post: Callable[..., Exchange], pieces: list[bytes]) -> Exchange:
    """Post the pieces of a body; return the first response that failed, else one whose piece became a dead letter."""
    responses: list[Exchange] = []
    for piece in pieces:
        responses.append(post(body=piece))
        if responses[-1].status != 200:
            return responses[-1]
    return next(filter(_is_kept, responses), responses[-1])


def _is_kept(response: Exchange) -> bool:
    return KEPT.encode() in (response.body or b"")


def _judged(callback: ReceivedDeadLetter, response: Exchange) -> Replayed:
    if response.status != 200:
        return _result(callback, "not posted", f"HTTP {response.status}" if response.status else str(response.failure))
    if _is_kept(response):
        return _result(callback, "kept again", "the stack can't store it; it is a new dead letter now")
    return _result(callback, "stored")


def _result(callback: ReceivedDeadLetter, result: str, why: str = "") -> Replayed:
    return Replayed(callback.sqs_id, callback.since, result, why)


def _readable(callback: ReceivedDeadLetter) -> tuple[bytes, str]:
    """Return the bytes as they were posted, and why this version can't read them; empty if it can."""
    is_encoded = callback.encoding == "base64"
    try:
        body = base64.b64decode(callback.body, validate=True) if is_encoded else callback.body.encode()
        is_reply = _route(callback) is CallbackRoute.REPLY
        parsed = parse_callbacks(body, charset=callback.charset, expect_reply=is_reply)
    except UnreadableCallbackError as error:
        return b"", error.detail
    except ValueError:
        return b"", "its body could not be kept as it was"
    return body, next((one.detail for one in parsed if isinstance(one, UnreadableCallbackError)), "")


def _route(callback: ReceivedDeadLetter) -> CallbackRoute:
    """Return the path to post to: by the callback's fields, which usually decide, else by the dead letter's route."""
    return CallbackRoute.REPLY if callback.route == CallbackRoute.REPLY else CallbackRoute.STATUS


def _content_type(callback: ReceivedDeadLetter) -> str:
    is_given = _CHARSET.fullmatch(callback.charset)
    return "application/json" + (f"; charset={callback.charset}" if is_given else "")
