"""Phone numbers: which numbers no handset can have, and which number a text that is not in E.164 probably means.

The rules of `phonenumbers`, without the library: importing it would add a tenth of a second to each cold start. A test
compares both. A number that no carrier has assigned is possible; the gateway decides about it.
"""

import re
import unicodedata
from typing import Final, NamedTuple

from optus_sms.model.numbering_plans import PLANS

E164: Final = r"\+[1-9][0-9]{6,14}"
HOME_CODE: Final = "61"  # Optus's

_BETWEEN_DIGITS: Final = re.compile(r"[\s().\-/\u00ad\u200b-\u200f\u2010-\u2015\u202a-\u202e\u2060-\u2069\u2212]")


class NumberingPlan(NamedTuple):
    """The plan of a country code. ``lengths``: of mobile numbers, or of all numbers if the plan has no mobile ones.

    ``prefix``: the pattern of the national prefix; ``rule``: how some prefixes change the number. ``pattern`` and the
    other lengths are those of all numbers, and empty if mobile numbers have all lengths and there is no prefix. Lengths
    count the digits of the national number.
    """

    lengths: tuple[int, ...]
    prefix: str = ""
    rule: str = ""
    pattern: str = ""
    all_lengths: tuple[int, ...] = ()
    local_lengths: tuple[int, ...] = ()


def problem_of(number: str) -> str | None:
    """Return why an E.164 number can't be a handset's, with the fix; None if it can."""
    code = _country_code(number[1:])
    if code is None:
        return "has no country code that exists; set an E.164 number such as +61491570006"
    if canonical := _canonical(number):
        return None if canonical == number else f"must be written {canonical}"
    lengths = NumberingPlan(*PLANS[code]).lengths
    digits = ", ".join(map(str, lengths[:-1])) + " or " * (len(lengths) > 1) + str(lengths[-1])
    return f"is not a possible number: +{code} is followed by {digits} digits, without a national prefix such as 0"


def did_you_mean(text: str) -> str | None:
    """Return the E.164 number that a text probably means: with spaces, without plus, or as dialed within Australia."""
    written = _BETWEEN_DIGITS.sub("", unicodedata.normalize("NFKC", text))
    if re.fullmatch(E164, written):  # it names its country, so it is never dialed within Australia
        return _meant(written[1:]) or (None if problem_of(written) else written)
    digits = written.removeprefix("+")
    if not digits.isascii() or not digits.isdigit():
        return None
    abroad = re.sub(r"^(0011|00)", "", digits)
    return next(filter(None, map(_meant, (abroad, HOME_CODE + digits))), None)


def e164(number: str) -> str:
    """Return a handset's number in E.164; a short code, a name or anything else unchanged, without spaces around it.

    A number without country code is Australian, because the gateway's are.
    """
    return did_you_mean(number) or number.strip()


def _meant(digits: str) -> str | None:
    """Return the possible number with these digits, without a national prefix; None if there is none."""
    number = "+" + digits
    return _canonical(number, mobile_only=True) if re.fullmatch(E164, number) else None


def _canonical(number: str, *, mobile_only: bool = False) -> str | None:
    """Return an E.164 number without a national prefix; None if no handset can have it.

    Numbers of machines and fixed lines can have other lengths; with ``mobile_only`` these don't count.
    """
    code = _country_code(number[1:])
    if code is None:
        return None
    plan = NumberingPlan(*PLANS[code])
    significant = _without_prefix(number[1 + len(code) :], plan)
    is_other_kind = not mobile_only and plan.pattern and re.fullmatch(plan.pattern, significant)
    return f"+{code}{significant}" if len(significant) in plan.lengths or is_other_kind else None


def _country_code(digits: str) -> str | None:
    return next((digits[:size] for size in (1, 2, 3) if digits[:size] in PLANS), None)


def _without_prefix(national: str, plan: NumberingPlan) -> str:
    """Return a national number without its national prefix, unless the rest is not one (as `phonenumbers.parse`)."""
    found = re.match(plan.prefix, national) if plan.prefix else None
    if found is None:
        return national
    if plan.rule and found[found.re.groups] is not None:
        changed = found.expand(plan.rule) + national[found.end() :]
    else:
        changed = national[found.end() :]
    if re.fullmatch(plan.pattern, national) and not re.fullmatch(plan.pattern, changed):
        return national
    size = len(changed)
    is_long_enough = size in plan.all_lengths or size > plan.all_lengths[-1]
    return changed if is_long_enough and size not in plan.local_lengths else national
