"""Writes model/numbering_plans.py: the part of `phonenumbers` that recognizes possible mobile numbers.

python -m tools.numbering_plans     (`make numbers`; a test fails when it is not up to date)
"""

from pathlib import Path
from typing import Any

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

PATH = Path(__file__).resolve().parents[1] / "layers/shared/src/optus_sms/model/numbering_plans.py"
_HEAD = '''"""The numbering plans, from `phonenumbers`: the fields of `model.numbers.NumberingPlan`, by country code.

tools/numbering_plans.py writes them.
"""

# fmt: off
# ruff: noqa: E501
from typing import Any, Final

PLANS: Final[dict[str, tuple[Any, ...]]] = {
'''


def text() -> str:
    """Return the text of the module."""
    lines = (f'    "{code}": {_plan(code)!r},\n' for code in sorted(COUNTRY_CODE_TO_REGION_CODE, key=str))
    return _HEAD + "".join(lines) + "}\n"


def _plan(code: int) -> tuple[Any, ...]:
    """Return the fields of a `NumberingPlan`; most plans need only the first one."""
    # Countries that share a code have the rules of the code's main country, as in `is_possible_number`.
    metadata: Any = PhoneMetadata.metadata_for_region_or_calling_code(code, COUNTRY_CODE_TO_REGION_CODE[code][0])
    everything, mobile = metadata.general_desc, metadata.mobile
    lengths = tuple(length for length in (mobile.possible_length if mobile else ()) if length > 0)
    lengths = lengths or tuple(everything.possible_length)
    if not metadata.national_prefix_for_parsing and lengths == tuple(everything.possible_length):
        return (lengths,)
    return (
        lengths,
        metadata.national_prefix_for_parsing or "",
        metadata.national_prefix_transform_rule or "",
        everything.national_number_pattern,
        tuple(everything.possible_length),
        tuple(everything.possible_length_local_only),
    )


def main() -> None:
    """Write the file."""
    PATH.write_text(text(), encoding="utf-8")
    print(PATH.name)


if __name__ == "__main__":
    main()
