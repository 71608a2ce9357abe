"""Check messages and queue them in batches of ten; after an error, queue them again under the same message_id.

    python send_many.py < messages.jsonl

Each line is a message as in send.py. After an interruption run it again: messages queued before are still sent once.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import boto3
from jsonschema import Draft202012Validator

SCHEMA = Path(os.environ.get("SCHEMA", "schemas/queue-message.schema.json"))  # a copy in your repository
QUEUE = os.environ["OUTBOUND_QUEUE_URL"]
ATTEMPTS = 5

validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
sqs = boto3.client("sqs")


def checked(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each valid line; print what is wrong with the others."""
    for number, line in enumerate(lines, start=1):
        try:
            message = json.loads(line)
            problem = next((error.message for error in validator.iter_errors(message)), None)
            if problem is None and "message_id" not in message:
                problem = "message_id is missing: without it a repeated message is a second SMS"
        except ValueError as error:
            problem = f"not JSON: {error}"
        if problem is None:
            yield number, line.strip()
        else:
            print(f"line {number}: {problem}", file=sys.stderr)


def queue_batch(batch: list[tuple[int, str]]) -> list[int]:
    """Queue up to ten messages; return the numbers of the lines that SQS did not accept."""
    left = dict(batch)
    for _ in range(ATTEMPTS):
        entries: Any = [{"Id": str(number), "MessageBody": text} for number, text in left.items()]
        response = sqs.send_message_batch(QueueUrl=QUEUE, Entries=entries)
        for taken in response.get("Successful", []):
            del left[int(taken["Id"])]
        if not left:
            break
    return list(left)


def in_tens(lines: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Yield the lines in lists of ten, the most that SQS takes in a call."""
    while batch := list(islice(lines, 10)):
        yield batch


if __name__ == "__main__":
    with ThreadPoolExecutor(max_workers=8) as pool:
        failed = [number for numbers in pool.map(queue_batch, in_tens(checked(sys.stdin))) for number in numbers]
    for number in failed:
        print(f"line {number}: SQS did not take it; run this again", file=sys.stderr)
    sys.exit(1 if failed else 0)
