import json

import pytest
from tiny_policies import policy

from vla_kit.cli import main
from vla_kit.errors import SettingError

pytestmark = pytest.mark.usefixtures("sizes_left_open")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "policy"
    policy("timm", "joint").save(folder)
    return str(folder)


@pytest.mark.slow
def test_a_saved_policy_is_exported_and_invented_pictures_are_called_so(checkpoint, tmp_path, capsys):
    arguments = ["export", "--checkpoint", checkpoint, "--output", str(tmp_path / "out"), "--views", "[cam_high]"]
    main([*arguments, "--image_size", "32", "--observations", "2"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 observations: invented: random numbers in place of pictures" in printed
    assert "policy.pt2: the policy, batch and word of any length, largest difference" in printed
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert facts["observations"] == "invented: random numbers in place of pictures"
    assert facts["inputs"][0]["shape"] == ["batch", 1, 3, 32, 32]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([], "one of task, data and views must be given, got none"),
        (["--views", "[ego]", "--task", "metaworld/reach"], r"must be given, got \['task', 'views'\]"),
        (["--views", "[ego]", "--observations", "0"], "observations must be at least 1, got 0"),
    ],
)
def test_refuses(checkpoint, tmp_path, more, reason):
    with pytest.raises(SettingError, match=reason):
        main(["export", "--checkpoint", checkpoint, "--output", str(tmp_path / "out"), *more])
