import json
from pathlib import Path

import pytest
from torch import nn

from vla_kit.cli import main
from vla_kit.errors import SettingError
from vla_kit.heads import DiTHead
from vla_kit.training.parameter_table import parameter_table

CONFIGS = Path(__file__).parents[3] / "examples" / "qwen_vla" / "configs"


def test_the_full_size_has_the_figures_of_the_paper(tmp_path, capsys):
    main(["params", "--config", str(CONFIGS / "size/full.yaml"), "--json", str(tmp_path / "table.json")])
    printed = capsys.readouterr().out
    for figure in ("16 x 70.8 M", "4.9 M", "3.9 M", "2.8 M", "4.7 M", "1.15 B"):
        assert figure in printed
    table = json.loads((tmp_path / "table.json").read_text())
    total = table.pop("total")
    assert total == sum(table.values())
    assert table["context_projection"] == 2560 * 1536 + 1536


def test_later_files_override_and_the_width_of_the_backbone_is_linked(tmp_path, capsys):
    narrow = tmp_path / "narrow.yaml"
    narrow.write_text("model: {head: {init_args: {horizon: 8}}}")
    out = tmp_path / "table.json"
    main(["params", "--config", str(CONFIGS / "size/tiny.yaml"), "--config", str(narrow), "--json", str(out)])
    # the readout from a context of 128 features to 8 steps of 64 channels
    assert json.loads(out.read_text())["readout"] == (128 + 1) * 8 * 64


def test_parts_sum_to_the_whole_and_a_part_that_knows_its_rows_stands_in_them():
    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(nn.Linear(1, 1).weight)
            self.head = DiTHead(context_width=6, channels=4, width=16, depth=2, num_heads=2, mlp_hidden=32)
            self.vision = nn.Linear(3, 6)

    policy = Policy()
    table = parameter_table(policy)
    assert table["own"] == 1
    assert table["vision"] == 24
    assert table["head.context_projection"] == 7 * 16
    assert sum(table.values()) == sum(parameter.numel() for parameter in policy.parameters())


def test_a_configuration_without_a_head_is_refused():
    with pytest.raises(SettingError, match=r"must set model\.head\.class_path, got none in"):
        main(["params", "--config", str(CONFIGS / "base.yaml")])


def test_what_wraps_the_head_is_counted(tmp_path):
    out = tmp_path / "table.json"
    files = [CONFIGS / name for name in ("state/token.yaml", "size/tiny.yaml")]
    main(["params", *(f"--config={file}" for file in files), "--json", str(out)])
    # a network from 64 channels of the state over 128 to a context token of 128 features
    assert json.loads(out.read_text())["token"] == (64 + 1) * 128 + (128 + 1) * 128
