"""Check daily whether the gateway's `openapi.yaml` has changed (docs/outages.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optus_sms.gateway.contract import Comparison, Contract, compare
from optus_sms.model.times import Clock
from optus_sms.runtime.observability import Metric, error_fields, logger, publish

if TYPE_CHECKING:
    from optus_sms.gateway.api import Gateway
    from optus_sms.gateway.credentials import GatewayCredentials, GatewaySecret
    from optus_sms.records.contract import ContractRecords


@dataclass(frozen=True)
class ContractChecker:
    """One per execution environment."""

    gateway: Gateway
    secret: GatewaySecret
    records: ContractRecords
    clock: Clock = field(default_factory=Clock)

    def check(self) -> Mapping[str, Any]:
        """Request, compare, report, then store. In this order, a crash repeats a report and never loses one."""
        comparison = compare(self.gateway.get_contract(self._credentials()), self.records.get())
        result = {
            "contract": comparison.contract.value,
            "differences": list(comparison.differences),
            "reason": comparison.reason,
        }
        self._report(comparison, result)
        if comparison.contract in (Contract.BASELINE, Contract.CHANGED):
            self.records.put(comparison.document, now=self.clock.now())
        return result

    def _credentials(self) -> GatewayCredentials | None:
        try:
            return self.secret.current()
        except Exception as error:  # noqa: BLE001 - the document may be public
            logger().warning("requested without credentials", extra=error_fields(error))
            return None

    @staticmethod
    def _report(comparison: Comparison, result: Mapping[str, Any]) -> None:
        match comparison.contract:
            case Contract.BASELINE:
                lines = comparison.document.count("\n") + 1
                logger().info("gateway contract stored as the baseline", extra={"lines": lines})
            case Contract.SAME:
                logger().info("gateway contract unchanged")
            case Contract.CHANGED:
                logger().error("gateway contract changed", extra={"differences": result["differences"]})
            case Contract.ABSENT | Contract.UNREADABLE:
                logger().warning("gateway contract not compared", extra=result)
                publish([(Metric.CONTRACT_UNREADABLE, 1.0)])
                return
        differences = float(comparison.changed_lines)
        publish([(Metric.CONTRACT_DIFFERENCES, differences), (Metric.CONTRACT_UNREADABLE, 0.0)])
