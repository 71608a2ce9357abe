#!/bin/sh
# Queue one message, for example from cron. The same message_id on the same day is one SMS.
set -eu
: "${OUTBOUND_QUEUE_URL:?the stack output OutboundQueueUrl}"
body=$(printf '{"message_id": "backup-failed-%s", "destination": "+61491570006", "content": "%s"}' \
  "$(date +%F)" "The nightly backup has failed.")
aws sqs send-message --queue-url "$OUTBOUND_QUEUE_URL" --message-body "$body"
