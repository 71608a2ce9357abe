"""Facts and rules without I/O: messages, callbacks, statuses, events."""
