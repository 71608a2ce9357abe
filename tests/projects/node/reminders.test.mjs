// The tests of a system in another language: `make run` is a service with a readiness URL and a JSON API.
import assert from "node:assert/strict";
import test from "node:test";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";

const page = process.env.PAGE_URL;
const handset = "+61491570006";

test("the customer gets one text", async () => {
  assert.deepEqual(await (await fetch(`${page}api/ready`)).json(), { ready: true });
  const sqs = new SQSClient();
  const message = { message_id: "node-4711", destination: handset, content: "Your appointment is tomorrow." };
  const request = { QueueUrl: process.env.OUTBOUND_QUEUE_URL, MessageBody: JSON.stringify(message) };
  await sqs.send(new SendMessageCommand(request));
  await sqs.send(new SendMessageCommand(request));

  const response = await fetch(`${page}api/handsets/${handset}/messages?wait=30&reference=node-4711`);
  const { messages } = await response.json();
  assert.deepEqual(messages.map((each) => each.content), [message.content]);
});
