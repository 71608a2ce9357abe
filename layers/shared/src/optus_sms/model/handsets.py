"""Phone numbers as the gateway and handsets write them, in the one form of this stack: E.164 with a plus."""

import re
from typing import Final

_SEPARATORS: Final = re.compile(r"[\s().\-\u2010-\u2015/]")
# Each row: what comes before the part that E.164 has too, that part, and its country code if it is not written.
_FORMS: Final = (
    # Australia, with its trunk prefix 0 or with that of the country code left in: 0491 570 006, +61 (0)491 570 006.
    (re.compile(r"(?:(?:\+|00|0011)?61)?0([2-9][0-9]{8})", re.ASCII), "+61"),
    # A mobile number whose 0 was lost, as in a spreadsheet. No other country has a mobile number of this form.
    (re.compile(r"(4[0-9]{8})", re.ASCII), "+61"),
    # International, with a plus or with the prefix that Australia or most others dial for it.
    (re.compile(r"(?:\+|0011|00)([1-9][0-9]{6,14})", re.ASCII), "+"),
    # International with nothing before it, longer than any short code. What begins with 1 is a service number of
    # Australia (13…, 1300…, 19…), unless it is as long as a number of North America.
    (re.compile(r"([2-9][0-9]{7,14}|1[0-9]{10,14})", re.ASCII), "+"),
)


def e164(number: str) -> str:
    """Return a number in E.164; a short code, a name or anything else as it is, without spaces around it.

    National numbers are Australian, because the gateway's are.
    """
    digits = _SEPARATORS.sub("", number)
    for form, prefix in _FORMS:
        if found := form.fullmatch(digits):
            return prefix + found[1]
    return number.strip()
