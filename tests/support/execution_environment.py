"""Resets what an execution environment keeps (clients, logger, metrics), so that each test has a new one."""

from __future__ import annotations

from optus_sms.aws import clients
from optus_sms.runtime import observability


def forget_execution_environment() -> None:
    """Return to the state of a new execution environment."""
    clients._session.cache_clear()
    if observability.logger.cache_info().currsize:
        # Powertools keeps one logger for each service name, with a handler that holds this test's captured stdout.
        kept = observability.logger()._logger
        kept.handlers.clear()
        del kept.init  # type: ignore[attr-defined] # Powertools' mark of a logger that is set up
        del kept.powertools_handler  # type: ignore[attr-defined] # and where it would look for the handler
        observability.logger.cache_clear()
    if observability._metrics.cache_info().currsize:
        metrics = observability._metrics()
        metrics.clear_default_dimensions()
        metrics.clear_metrics()  # after the defaults, which it would otherwise set again
        observability._metrics.cache_clear()
