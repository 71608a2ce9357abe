"""The command line for operators and senders, `optus-sms` (docs/cli.md). It is not deployed."""
