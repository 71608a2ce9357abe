// Queue one message, checked before. After any error run it again: the message_id makes it one SMS.
import { readFile } from "node:fs/promises";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const ajv = new Ajv2020({ strict: false });
addFormats(ajv);
const schema = JSON.parse(await readFile(process.env.SCHEMA ?? "queue-message.schema.json", "utf8"));
const isValid = ajv.compile(schema);
const sqs = new SQSClient();

export async function queueMessage(message) {
  if (!isValid(message)) throw new Error(ajv.errorsText(isValid.errors));
  const request = { QueueUrl: process.env.OUTBOUND_QUEUE_URL, MessageBody: JSON.stringify(message) };
  await sqs.send(new SendMessageCommand(request));
}

await queueMessage({
  message_id: "appointment-4711-reminder-node",
  destination: "+61491570006",
  content: "Your appointment is tomorrow at 9:30.",
});
