"""Send SMS through the Optus SMS Suite gateway, at most once, and keep what it reports back.

Modules import only from rows above their own (tests/contract/test_imports.py enforces it):

==================  ==================================================================
pure                errors, segments, delivery, messages, callbacks
process-wide        settings, observability
one system each     credentials, transport, gateway, ledger, message_store, queues
use cases           sending, receiving, health
==================  ==================================================================

Importing any module has no side effect.
"""
