import pytest

from vla_kit.cli import VLACLI
from vla_kit.data.balanced_shares import BalancedShares

BALANCED = """
data:
  init_args:
    shares:
      class_path: vla_kit.data.balanced_shares.BalancedShares
      init_args: {by: [embodiment, instruction]}
"""
FAMILIES = """
data:
  init_args:
    shares:
      class_path: vla_kit.data.family_shares.paper_shares
      init_args: {families: {metaworld: synthetic_simulation, aloha: %s}}
"""


@pytest.fixture
def run(stacked, tmp_path):
    def fit(text):
        (tmp_path / "shares.yaml").write_text(text)
        return VLACLI(
            [
                *stacked("fit", "stage3_sft.yaml"),
                f"--config={tmp_path / 'shares.yaml'}",
                "--trainer.fast_dev_run=true",
            ]
        )

    return fit


def test_balance_is_a_setting(run):
    command = run(BALANCED)
    data = command.datamodule
    assert isinstance(data._loading.shares, BalancedShares)
    assert data.train_dataloader().mixture.shares == pytest.approx(
        {"metaworld: open the drawer": 0.5, "aloha: open the drawer": 0.5}
    )


def test_the_papers_shares_are_a_setting(run):
    data = run(FAMILIES % "robot_manipulation").datamodule
    total = 3.7 + 74.2
    assert data.train_dataloader().mixture.shares == pytest.approx({"metaworld": 3.7 / total, "aloha": 74.2 / total})


def test_an_unknown_family_is_refused(run):
    with pytest.raises(ValueError, match=r"families must be among .* got \['robots'\]"):
        run(FAMILIES % "robots")
