"""Queue one message. After any error call it again with the same message: the message_id makes it one SMS."""

import json
import os

import boto3

sqs = boto3.client("sqs")


def queue_message(message: dict[str, str]) -> None:
    """Put one message on the queue of the stack; boto3 retries after network errors automatically."""
    sqs.send_message(QueueUrl=os.environ["OUTBOUND_QUEUE_URL"], MessageBody=json.dumps(message))


if __name__ == "__main__":
    queue_message(
        {
            "message_id": "appointment-4711-reminder",
            "destination": "+61491570006",
            "content": "Your appointment is tomorrow at 9:30.",
        }
    )
