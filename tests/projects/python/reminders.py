"""A system that sends: it queues a reminder for an appointment."""

import json
import os

import boto3


def remind(appointment: int, handset: str) -> None:
    message = {
        "message_id": f"reminder-{appointment}",
        "destination": handset,
        "content": f"Your appointment {appointment} is tomorrow.",
    }
    boto3.client("sqs").send_message(QueueUrl=os.environ["OUTBOUND_QUEUE_URL"], MessageBody=json.dumps(message))
