"""What jsonargparse says, in the words of the user; what is not known stays readable."""

import pytest

from biomass_pl.errors import ConfigError, FoldError
from biomass_pl.harness.parse_errors import constructor_error, plain


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("the following arguments are required: model", "nothing says what model is; give a recipe: --config FILE"),
        ('Parser key "trainer.max_epochs": bad.', "trainer.max_epochs: bad"),
        ("Option 'hed_lr' is not accepted", "there is no setting 'hed_lr'"),
        ("Expected a <class 'int'>. Got value: many", "expected int, got 'many'"),
        (
            "Does not validate against any of the Union subtypes\nSubtypes: [int, None]\nErrors:\n"
            "  - Expected a <class 'int'>. Got value: x\n  - Expected a <class 'NoneType'>. Got value: x\n"
            "Given value type: <class 'str'>\nGiven value: x",
            "expected int, got 'x'",
        ),
        (
            "Does not validate against any of the Union subtypes\nSubtypes: [str, Strategy]\nErrors:\n"
            "  - Expected a <class 'str'>\n  - timeout is -1\nGiven value type: <class 'Namespace'>\n"
            "Given value: Namespace(class_path='Strategy', init_args=Namespace(timeout=-1))",
            "timeout is -1",
        ),
        ("Something that no one has met before.", "Something that no one has met before"),
    ],
)
def test_a_message_is_one_plain_line(message, shown):
    assert plain(message) == shown


def test_a_long_message_is_cut():
    assert len(plain("x" * 5000)) < 500 and plain("x" * 5000).endswith(" ...")


def test_an_error_of_this_package_comes_out_of_its_wrapping():
    own, wrapped = FoldError("too few folds"), ValueError("wrapped")
    wrapped.__cause__ = KeyError("between")
    wrapped.__cause__.__context__ = own
    assert constructor_error(wrapped) is own


def test_another_error_becomes_one_of_the_configuration():
    found = constructor_error(ValueError("width must be even"))
    assert isinstance(found, ConfigError)
    assert str(found) == "width must be even. Change the configuration."
