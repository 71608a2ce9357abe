"""The HTTP API of the gateway: requests, and what each response proves."""
