"""Send SMS through the Optus SMS Suite gateway, at most once, and keep what it reports back.

A module imports only from its own row and those above it, and never in a circle (tests/contract/test_imports.py reads
this table and enforces it):

==================  ======================================================================================
pure                errors, times, segments, delivery, messages, callbacks, events
process-wide        settings, observability, one_cpu, clients, dynamodb
one system each     credentials, transport, gateway, ledger, message_store, queues, event_bus
the health check    health_store, valve, traffic
use cases           breaker, pacing, settling, sending, receiving, health, contract, reconciling, publishing
==================  ======================================================================================

Pure modules touch nothing outside themselves: no AWS, no network, no environment. Importing any module has no side
effect.
"""
