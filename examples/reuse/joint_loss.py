"""The two-headed loss in somebody else's policy: a recurrent network that acts and answers.

Run: python examples/reuse/joint_loss.py (5 seconds on one CPU core)

One batch holds two robots of different widths and a question without any robot. No flow matching here: the network
predicts actions at once, and `masked_mse` weighs the wide and the narrow robot alike.
"""

import sys

import torch
from torch import nn

from vla_kit.actions import MaskedActions
from vla_kit.losses import JointLoss, masked_mse, next_token_loss

VOCABULARY, CHANNELS, HORIZON = 12, 8, 3


class TheirPolicy(nn.Module):
    """Reads tokens; answers with the next token everywhere and with a chunk of actions at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 32)
        self.read = nn.GRU(32, 64, batch_first=True)
        self.speak = nn.Linear(64, VOCABULARY)
        self.act = nn.Linear(64, HORIZON * CHANNELS)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and actions."""
        states, last = self.read(self.embed(tokens))
        return self.speak(states), self.act(last[0]).unflatten(-1, (HORIZON, CHANNELS))


torch.manual_seed(0)
tokens = torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0], [6, 7, 8, 9]])
labels = torch.tensor([[-100] * 4, [-100] * 4, [-100, -100, 8, 9]])  # only the question is answered in words
arm, base = torch.rand(3, 7), torch.rand(2, 3)
robots = MaskedActions.pad([arm, base], channels=CHANNELS, horizon=HORIZON)
nobody = MaskedActions(torch.zeros(1, HORIZON, CHANNELS), torch.zeros(1, HORIZON, CHANNELS, dtype=torch.bool))
actions = MaskedActions.stack([robots, nobody])
has_actions = actions.mask.flatten(1).any(1)

policy, joint = TheirPolicy(), JointLoss(action_weight=1.0, language_weight=0.1)
optimizer = torch.optim.Adam(policy.parameters(), lr=2e-3)
for step in range(101):
    logits, predicted = policy(tokens)
    action, language = masked_mse(predicted, actions.values, actions.mask), next_token_loss(logits, labels)
    total = joint(action=action, language=language, has_actions=has_actions)
    if step % 50 == 0:
        parts = f"arm {action[0]:.4f}, base {action[1]:.4f}, words {language:.4f}, total {total:.4f}"
        sys.stdout.write(f"step {step}: {parts}\n")
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
