import pickle
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_env import LineEnv

from vla_kit.envs import EnvRecipe
from vla_kit.errors import SettingError


def test_it_makes_what_it_says_also_after_a_journey():
    recipe = EnvRecipe.parse({"class_path": "fake_env.LineEnv", "init_args": {"fail_at": 3}})
    for one in (recipe, pickle.loads(pickle.dumps(recipe))):
        env = one()
        assert isinstance(env, LineEnv)
        assert env.fail_at == 3
    assert isinstance(EnvRecipe.parse({"class_path": "fake_env.LineEnv"})(), LineEnv)
    assert repr(recipe) == "EnvRecipe(class_path='fake_env.LineEnv', init_args={'fail_at': 3})"


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"init_args": {}}, "envs must hold blocks of class_path and init_args"),
        ({"class_path": "fake_env.LineEnv", "colour": 1}, "envs must hold blocks of class_path and init_args"),
        ({"class_path": "fake_env.PlaneEnv"}, "class_path must be the full name of a class, got 'fake_env.PlaneEnv'"),
        ({"class_path": "no_such_module.A"}, "class_path must be the full name of a class"),
        ({"class_path": "LineEnv"}, "class_path must be the full name of a class, got 'LineEnv'"),
        ({"class_path": "fake_env.LineEnv", "init_args": {"colour": 1}}, "arguments of fake_env.LineEnv, got .*colour"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_made(block, text):
    with pytest.raises(SettingError, match=text):
        EnvRecipe.parse(block)
