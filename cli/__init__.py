"""The operator's and the sender's command line, `optus-sms`: see docs/cli.md. Not part of what is deployed."""
