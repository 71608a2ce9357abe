// Commands and code that queue the same message. Pure: the message in, the text to copy out.
// Addresses are variables of .local/endpoints.env, so the same text works with a deployed stack.

const inShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const lines = (...all) => all.join("\n");
const inPython = (value) => (value === true ? "True" : value === false ? "False" : JSON.stringify(value));

function python(message) {
  const fields = Object.entries(message).map(([name, value]) => `    ${JSON.stringify(name)}: ${inPython(value)},`);
  return lines("{", ...fields, "}");
}

function option([name, value]) {
  const flag = `--${name.replaceAll("_", "-")}`;
  return value === true ? flag : `${flag}=${inShell(String(value))}`;
}

export const FORMS = {
  JSON: (message) => JSON.stringify(message, null, 2),
  "optus-sms": ({ destination = "", content = "", ...rest }, urgent) =>
    [`.venv/bin/optus-sms send${urgent ? " --urgent" : ""}`, ...Object.entries(rest).map(option), "--", inShell(destination), inShell(content)].join(" "),
  curl: (message, urgent) => lines(
    "source .local/endpoints.env",
    'curl "$AWS_ENDPOINT_URL" --aws-sigv4 "aws:amz:$AWS_REGION:sqs" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \\',
    "  -H 'Content-Type: application/x-amz-json-1.0' -H 'X-Amz-Target: AmazonSQS.SendMessage' --data-binary @- <<END",
    `{"QueueUrl": "$${queueUrl(urgent)}", "MessageBody": ${inHereDocument(JSON.stringify(JSON.stringify(message)))}}`,
    "END"),
  boto3: (message, urgent) => lines(
    "import json, os",
    "import boto3",
    "",
    `message = ${python(message)}`,
    `boto3.client("sqs").send_message(QueueUrl=os.environ["${queueUrl(urgent)}"], MessageBody=json.dumps(message))`),
  Node: (message, urgent) => lines(
    'import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";',
    "",
    `const message = ${JSON.stringify(message, null, 2)};`,
    `const request = { QueueUrl: process.env.${queueUrl(urgent)}, MessageBody: JSON.stringify(message) };`,
    "await new SQSClient().send(new SendMessageCommand(request));"),
};

const queueUrl = (urgent) => urgent ? "URGENT_QUEUE_URL" : "OUTBOUND_QUEUE_URL";

// A shell interprets these three characters in a here-document.
function inHereDocument(text) {
  return text.replace(/[\\$`]/g, "\\$&");
}
