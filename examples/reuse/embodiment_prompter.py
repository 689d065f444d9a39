"""Tell your own language-conditioned policy which robot it drives: only the prompter comes from vla-kit.

Run: python examples/reuse/embodiment_prompter.py
"""

import re
import zlib

import torch
from torch import Tensor, nn

from vla_kit.embodiment import EmbodimentPrompter, preset

DIRECTIONS = {"left": -1.0, "right": 1.0, "forward": 0.5, "back": -0.5}
ROBOTS = {"franka_eef": 0.02, "franka_joint": 0.3, "widowx": 0.05}  # size of one step in each robot's own unit
WORDS = 4096


class MyPolicy(nn.Module):
    """Somebody else's policy: hashed words in, one action out. Words are all it sees of robot and task."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(WORDS, 32)
        self.layers = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, texts: list[str]) -> Tensor:
        """Texts -> actions [batch]."""
        tokens = [[zlib.crc32(word.encode()) % WORDS for word in re.findall(r"\w+|\S", text)] for text in texts]
        offsets = torch.tensor([0] + [len(text) for text in tokens[:-1]]).cumsum(0)
        return self.layers(self.words(torch.tensor([token for text in tokens for token in text]), offsets)).squeeze(1)


def train(texts: list[str], actions: Tensor) -> float:
    """Fit a fresh policy; the error left at the end, relative to the spread of the actions."""
    torch.manual_seed(0)
    policy = MyPolicy()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    for _ in range(300):
        loss = (policy(texts) - actions).square().mean() / actions.var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def main() -> None:
    """Train with the bare instruction and with the prompt."""
    prompter = EmbodimentPrompter([preset(name) for name in ROBOTS], state_convention=True)
    pairs = [(robot, f"move {direction}") for robot in ROBOTS for direction in DIRECTIONS]
    actions = torch.tensor([ROBOTS[robot] * DIRECTIONS[task.split()[1]] for robot, task in pairs])
    print(prompter(*pairs[0]), "\n")
    print(f"error left, instruction alone: {train([task for _, task in pairs], actions):.4f}")
    print(f"error left, with the prompt:   {train([prompter(*pair) for pair in pairs], actions):.4f}")


if __name__ == "__main__":
    main()
