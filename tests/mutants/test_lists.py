"""The lists of mutants fit the code as it is: each can be applied, and names tests that are there."""

from mutants.lists import ROOT, mutants


def test_each_mutant_can_be_applied_to_the_code_as_it_is() -> None:
    for one in mutants():
        text = (ROOT / one.file).read_text()
        changed = one.applied_to(text)
        assert changed != text, one
        compile(changed, one.file, "exec")


def test_each_mutant_names_tests_that_are_there() -> None:
    missing = [name for one in mutants() for name in one.tests if not (ROOT / name.partition("::")[0]).exists()]
    assert not missing


def test_there_are_enough_of_them() -> None:
    assert len(mutants()) >= 60
