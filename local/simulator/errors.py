"""Error bodies of the gateway.

Shape: gateway-rest-v2.txt, "API Error Response" (`message`, `statusCode`, `error`, all required). The words are those
of the REST v2 page. It is not documented which of the two text fields has them; here it is `error`. Both fields have
only the characters of the specification: letters, digits, space, `-` and `_`.
"""

import json

SERVICE_ERROR = "SMS Gateway Service V2 error"


class RefusedError(Exception):
    """A request that the gateway refuses. `error`: the documented word, if there is one."""

    def __init__(
        self, status: int, error: str, message: str = SERVICE_ERROR, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(f"{status} {error}")
        self.status = status
        self.error = error
        self.body = error_body(status, error, message)
        self.headers = headers


def error_body(status: int, error: str, message: str = SERVICE_ERROR) -> str:
    """Return the JSON text of an `ApiErrorResponse`."""
    return json.dumps({"message": message, "statusCode": status, "error": error})
