"""The settings of each function, by its logical id in the template."""

from typing import Any, Final

from optus_sms.runtime.settings import HealthSettings, PublishSettings, ReceiveSettings, ReconcileSettings, SendSettings

SETTINGS: Final[dict[str, type[Any]]] = {
    "SendMessageFunction": SendSettings,
    "ReceiveCallbackFunction": ReceiveSettings,
    "CheckHealthFunction": HealthSettings,
    "ReconcileMessagesFunction": ReconcileSettings,
    "PublishEventsFunction": PublishSettings,
}
