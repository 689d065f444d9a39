from itertools import islice

import numpy as np
import pytest

from vla_kit.data.synthesis.sentences import compose, sentences
from vla_kit.data.synthesis.template_names import TEMPLATES
from vla_kit.errors import SettingError


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_says_ten_thousand_different_sentences(template):
    said = list(islice(sentences(template), 12_000))
    assert len(set(said)) == len(said) >= 10_000


@pytest.mark.parametrize("template", TEMPLATES)
def test_drawn_sentences_have_no_open_slot_and_follow_the_generator(template):
    first = [compose(template, np.random.default_rng(seed)) for seed in range(20)]
    assert first == [compose(template, np.random.default_rng(seed)) for seed in range(20)]
    assert len(set(first)) > 15
    assert not any("{" in sentence or "}" in sentence for sentence in first)


def test_given_words_are_said():
    sentence = compose("push", np.random.default_rng(0), object="red mug", distance="7 cm", direction="to the left")
    assert "the red mug 7 cm to the left" in sentence


def test_unknown_words_are_refused():
    with pytest.raises(SettingError, match="direction must be among"):
        compose("push", np.random.default_rng(0), direction="upward")


def test_unknown_templates_are_refused():
    with pytest.raises(SettingError, match="template must be among"):
        next(sentences("juggle"))
