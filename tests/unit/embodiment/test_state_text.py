"""States in words."""

import numpy as np
import pytest
import torch

from vla_kit.embodiment import EmbodimentPrompter, preset, state_bins, state_from_bins, state_text
from vla_kit.errors import DataError, SettingError


def test_bins_by_hand():
    assert state_bins(torch.tensor([-1.0, -0.9922, -0.992, -0.0001, 0.0, 0.9921, 0.9922, 1.0])) == [
        *(0, 0, 1, 127, 128, 254, 255, 255)
    ]
    assert state_bins(torch.tensor([-3.0, 3.0])) == [0, 255]
    assert state_bins(torch.tensor([-1.0, 0.0, 0.9]), bins=2) == [0, 1, 1]


def test_bins_are_those_of_pi0_fast():
    state = torch.rand(2000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = np.digitize(state.numpy(), bins=np.linspace(-1, 1, 257)[:-1]) - 1
    assert state_bins(state) == expected.tolist()


def test_middles_of_bins_are_within_half_a_bin_and_keep_their_bin():
    state = torch.linspace(-1, 1, 1001)
    middle = state_from_bins(state_bins(state))
    assert (middle - state).abs().max() <= 1 / 256 + 1e-6
    assert state_bins(middle) == state_bins(state)


def test_the_prompt_has_the_state_before_the_instruction():
    prompter = EmbodimentPrompter([preset("widowx")], state_bins=256)
    text = prompter("widowx", "lift it", state=torch.tensor([-0.73, 0.0]))
    assert text.endswith("to execute the following task: state: [34, 128] lift it.")
    assert text.replace("state: [34, 128] ", "") == prompter("widowx", "lift it")
    assert state_text(torch.zeros(1)) == "state: [128]"
    coarse = EmbodimentPrompter([preset("widowx")], state_bins=4)("widowx", "lift it", state=torch.tensor([-0.73, 0.0]))
    assert coarse.endswith("state: [0, 2] lift it.")


def test_a_prompter_without_bins_leaves_the_state_out():
    prompter = EmbodimentPrompter([preset("widowx")])
    assert prompter("widowx", "lift it", state=torch.zeros(2)) == prompter("widowx", "lift it")


def test_wrong_states_and_bins_raise():
    with pytest.raises(DataError, match="state must be finite"):
        state_bins(torch.tensor([float("nan")]))
    with pytest.raises(DataError, match=r"found must hold bins in \[0, 255\], got \[256\]"):
        state_from_bins([256])
    with pytest.raises(SettingError, match="bins must be at least 2, got 1"):
        state_text(torch.zeros(1), bins=1)
    with pytest.raises(SettingError, match="bins must be at least 2, got 1"):
        EmbodimentPrompter([preset("widowx")], state_bins=1)
