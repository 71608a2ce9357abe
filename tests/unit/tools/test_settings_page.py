"""docs/settings.md agrees with the template, and has every parameter."""

from pathlib import Path

from local.template import read_template
from tools.settings_page import PATH, settings_page


def test_the_page_is_up_to_date() -> None:
    assert Path(PATH).read_text(encoding="utf-8") == settings_page(read_template()), "make schemas"


def test_the_page_has_every_parameter_once() -> None:
    template = read_template()
    page = settings_page(template)
    assert [name for name in template["Parameters"] if page.count(f"| `{name}` |") != 1] == []
