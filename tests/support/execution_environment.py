"""An execution environment keeps clients, the logger and the metrics for its life; a test is one of its own."""

from __future__ import annotations

from optus_sms.aws import clients
from optus_sms.runtime import observability


def forget_execution_environment() -> None:
    """As if the execution environment had just started."""
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
