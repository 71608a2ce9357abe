"""`opt-outs`: listed handsets, changes by an operator or a file, and refused changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from optus_sms.records.items import OptOutRecord
from optus_sms.records.opt_outs import OptOuts
from tests.support.aws import REGION
from tests.support.builders import HANDSET
from tests.support.cli import Ran, optus_sms
from tests.support.deployed import STACK, DeployedStack

OTHER = "+61491570156"
OUT = OptOutRecord(HANDSET, True, "2026-01-01T00:00:00.000Z", "reply", reply_id="mo-1")


def opt_outs(*arguments: object) -> Ran:
    return optus_sms("opt-outs", *arguments, "--stack", STACK, "--region", REGION)


def table(stack: DeployedStack) -> OptOuts:
    return OptOuts.connect(stack.session.client("dynamodb"), stack.outputs["OptOutTableName"])


def found(stack: DeployedStack, handset: str = HANDSET) -> OptOutRecord:
    record = table(stack).read(handset)
    assert record is not None
    return record


def test_lists_who_has_opted_out_without_whole_numbers(stack: DeployedStack) -> None:
    table(stack).decide(OUT)
    table(stack).decide(OptOutRecord(OTHER, False, OUT.since, "reply", reply_id="mo-2"))
    ran = opt_outs("list")
    assert (ran.exit_code, "…006" in ran.stdout, "mo-1" in ran.stdout, "156" in ran.stdout) == (0, True, True, False)
    assert HANDSET not in ran.stdout
    assert HANDSET in opt_outs("list", "--show-numbers").stdout
    (only,) = opt_outs("list", "--json").document
    assert (only["handset"], only["by"], only["source"]) == ("…006", "reply", "mo-1")


def test_a_person_opts_a_handset_out_and_back_in(stack: DeployedStack) -> None:
    assert opt_outs("add", "0491 570 006", OTHER).exit_code == 0
    assert (found(stack).opted_out, found(stack).by, found(stack, OTHER).opted_out) == (True, "person", True)
    assert found(stack).operator
    assert opt_outs("remove", HANDSET, "--yes").exit_code == 0
    assert (found(stack).opted_out, found(stack, OTHER).opted_out) == (False, True)


def test_to_opt_back_in_needs_a_word(stack: DeployedStack) -> None:
    table(stack).decide(OUT)
    assert opt_outs("remove", HANDSET).exit_code == 2
    assert found(stack) == OUT


def test_a_later_decision_stays(stack: DeployedStack) -> None:
    later = OptOutRecord(HANDSET, True, "2999-01-01T00:00:00.000Z", "reply", reply_id="mo-9")
    table(stack).decide(later)
    ran = opt_outs("remove", HANDSET, "--yes")
    assert (ran.exit_code, "later decision" in ran.stderr) == (9, True)
    assert found(stack) == later


def test_a_file_that_was_exported_is_imported_elsewhere_with_its_times(stack: DeployedStack, tmp_path: Path) -> None:
    table(stack).decide(OUT)
    exported = opt_outs("export").stdout
    assert exported == f"handset,since,by\n{HANDSET},{OUT.since},reply\n"
    file = tmp_path / "opt-outs.csv"
    file.write_text("\ufeff" + exported + f"\n0491 570 156\n{OTHER}\n")
    ran = opt_outs("import", file, "--yes", "--json")
    assert ran.document == {"added": 1, "known": 1, "opted_back_in": 0}
    assert (found(stack), found(stack, OTHER).by) == (OUT, "import")


def test_an_old_list_does_not_undo_an_opt_in(stack: DeployedStack, tmp_path: Path) -> None:
    back = OptOutRecord(HANDSET, False, OUT.since, "reply", reply_id="mo-2")
    table(stack).decide(back)
    file = tmp_path / "list.csv"
    file.write_text(f"{HANDSET}\n")
    ran = opt_outs("import", file, "--yes")
    assert (ran.exit_code, "opted back in" in ran.stderr) == (0, True)
    assert found(stack) == back


def test_a_list_with_times_undoes_only_older_opt_ins(stack: DeployedStack, tmp_path: Path) -> None:
    for number in (HANDSET, OTHER):
        table(stack).decide(OptOutRecord(number, False, OUT.since, "reply", reply_id="mo-2"))
    file = tmp_path / "list.csv"
    file.write_text(f"{HANDSET},2026-01-02T00:00:00Z\n{OTHER},2025-12-31T00:00:00Z\n")
    assert opt_outs("import", file, "--yes", "--json").document == {"added": 1, "known": 0, "opted_back_in": 1}
    assert (found(stack).opted_out, found(stack, OTHER).opted_out) == (True, False)


@pytest.mark.parametrize(
    ("text", "line"),
    [(f'{OTHER},"\n\n"\n12345\n', "line 4: handset: "), (f'{OTHER}\n"{"1" * 200_000}"\n', "line 2: field larger than")],
)
def test_rows_of_several_lines_and_rows_that_are_too_long(
    stack: DeployedStack, tmp_path: Path, text: str, line: str
) -> None:
    file = tmp_path / "list.csv"
    file.write_text(text)
    ran = opt_outs("import", file, "--yes")
    assert (ran.exit_code, line in ran.stderr) == (5, True)
    assert list(table(stack).scan()) == []


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("12345", "handset"),
        ("Optus,2026-01-01T00:00:00Z", "handset"),
        (f"{HANDSET},soon", "since"),
        (f"{HANDSET},2999-01-01T00:00:00Z", "since"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_nothing_is_imported(
    stack: DeployedStack, tmp_path: Path, line: str, field: str
) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f"{OTHER}\n{line}\n")
    ran = opt_outs("import", file, "--yes")
    assert (ran.exit_code, f"line 2: {field}: " in ran.stderr) == (5, True)
    assert HANDSET not in ran.stderr
    assert list(table(stack).scan()) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("add",), 2), (("list", HANDSET), 2), (("import",), 2), (("add", "Optus"), 5), (("import", "none.csv"), 2)],
)
def test_wrong_arguments(stack: DeployedStack, arguments: tuple[str, ...], code: int) -> None:
    assert opt_outs(*arguments).exit_code == code
