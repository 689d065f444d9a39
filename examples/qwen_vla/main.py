"""Train and validate Qwen-VLA from the YAML files beside this script: `python main.py fit --config ...`."""

from vla_kit.cli import VLACLI

if __name__ == "__main__":
    VLACLI()
