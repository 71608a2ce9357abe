"""The usual handler of tutorials: all imports at the top, one record after the other, sent again after any failure."""

import os

import boto3
import requests
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, Field

logger = Logger()
tracer = Tracer()
metrics = Metrics()
processor = BatchProcessor(event_type=EventType.SQS)
secrets = boto3.client("secretsmanager")
table = boto3.resource("dynamodb").Table(os.environ["MESSAGES_TABLE_NAME"])


class TutorialMessage(BaseModel):
    message_id: str
    destination: str = Field(pattern=r"^\+[1-9]\d{6,14}$")
    content: str = Field(min_length=1)


class Credentials(BaseModel):
    application: str
    password: str


@tracer.capture_method
def send(record: SQSRecord) -> None:
    message = TutorialMessage.model_validate_json(record.body)
    secret = secrets.get_secret_value(SecretId=os.environ["GATEWAY_SECRET_ID"])
    credentials = Credentials.model_validate_json(secret["SecretString"])
    response = requests.post(
        os.environ["GATEWAY_BASE_URL"] + "/messages",
        json=message.model_dump(include={"destination", "content"}),
        auth=(credentials.application, credentials.password),
        timeout=10,
    )
    response.raise_for_status()
    table.put_item(Item={"id": response.json()["id"], "message_id": message.message_id, "status": "accepted"})
    metrics.add_metric(name="MessagesAccepted", unit=MetricUnit.Count, value=1)
    logger.info("accepted", message_id=message.message_id)


@logger.inject_lambda_context
@tracer.capture_lambda_handler
@metrics.log_metrics
def lambda_handler(event: dict[str, object], context: LambdaContext) -> PartialItemFailureResponse:
    return process_partial_response(event=event, record_handler=send, processor=processor, context=context)
