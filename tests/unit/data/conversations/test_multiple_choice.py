import pytest

from vla_kit.data.conversations import free_form
from vla_kit.errors import DataError

STYLES = [
    "What colour is it?\nA. red\nB. dark green\nC. blue",
    "What colour is it?\n(A) red\n(B) dark green\n(C) blue\nAnswer with the letter of the given choices directly.",
    "What colour is it?\nOptions:\nA) red\nB) dark green\nC) blue\n",
    "What colour is it? A. red B. dark green C. blue",
    "What colour is it?\nChoices: A: red\nB: dark green\nC: blue\nPlease select the correct option.",
]


@pytest.mark.parametrize("question", STYLES)
@pytest.mark.parametrize("answer", ["B", "(B)", "B.", "B. dark green", "The answer is B.", "dark green", "Dark green."])
def test_the_choice_in_words(question, answer):
    assert free_form(question, answer) == ("What colour is it?", "dark green")


def test_choices_beside_the_question():
    assert free_form("Why?\nSay it shortly.", "a", choices=["rain", "snow"]) == ("Why?\nSay it shortly.", "rain")


def test_words_after_the_options_stay():
    asked = "What is it?\nA. a cup\nB. a bowl\nThe image is mirrored."
    assert free_form(asked, "A") == ("What is it?\nThe image is mirrored.", "a cup")


def test_an_answer_that_begins_with_a_is_no_letter():
    assert free_form("What is it?", "A cup.", choices=["a bowl", "a cup"]) == ("What is it?", "a cup")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Which of the following is true?\nA. x\nB. y", "A"),
        ("What of these is red?\nA. x\nB. y", "B"),
        ("Which one?\nA. x\nB. y\nC. None of the above", "C"),
        ("Which one?\nA. x\nB. y\nC. Both A and B", "C"),
    ],
)
def test_what_means_nothing_without_options_is_left_out(question, answer):
    assert free_form(question, answer) is None


def test_refused():
    with pytest.raises(DataError, match="at least two options, got 0"):
        free_form("What is it?", "A")
    with pytest.raises(DataError, match=r"one of \['x', 'y'\], got 'C'"):
        free_form("Which one?\nA. x\nB. y", "C")
    with pytest.raises(DataError, match="got 'perhaps'"):
        free_form("Which one?\nA. x\nB. y", "perhaps")
