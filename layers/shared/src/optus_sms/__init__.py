"""Send SMS through the Optus SMS Suite gateway, at most once, and store the statuses and replies that come back.

Imports run in one direction: a package imports from itself and from the packages in the rows above its own
(tests/contract/test_imports.py reads this table and enforces it; no module imports in a circle):

=========  ======================================================================
model      Facts and rules without I/O: messages, callbacks, statuses, events.
runtime    The execution environment: its settings, logs and metrics.
gateway    The HTTP API of the gateway: requests, and what each response proves.
records    The tables: typed records and every write to them.
aws        The other AWS services: queues, event bus, CloudWatch, Lambda.
flows      What each function does, under the function's name.
=========  ======================================================================

`gateway`, `records` and `aws` do not import from each other. Importing any module has no side effect.
"""
