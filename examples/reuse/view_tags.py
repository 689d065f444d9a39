"""View and frame tags in somebody else's prompt: their own tokenizer, two cameras, two instants.

Run: python examples/reuse/view_tags.py (5 seconds on one CPU core)

The tags are text. A tokenizer that does not know them spells each out in many tokens; one that got them as special
tokens spends a single token on each and can never mix them up with words.
"""

import sys

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from vla_kit.embodiment import frame_token, view_tokens, wrap_view
from vla_kit.errors import SettingError

CAMERAS = ("ego", "cam_left_wrist")
PLACEHOLDER = "<image>"  # what their processor replaces by the tokens of one picture


def their_prompt(instruction: str, frames: int) -> str:
    """The oldest instant first, all cameras of an instant together; absent cameras are left out, not blackened."""
    seen = "".join(
        frame_token(frame) + "".join(wrap_view(camera, PLACEHOLDER) for camera in CAMERAS) for frame in range(frames)
    )
    return f"{seen}{instruction}"


def their_tokenizer(special: list[str]) -> Tokenizer:
    """A small BPE vocabulary, as any language model has a large one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["fold the towel", "open the left drawer"], trainer)
    return tokenizer


prompt = their_prompt("fold the towel", frames=2)
tags = [frame_token(0), frame_token(1), *(token for camera in CAMERAS for token in view_tokens(camera))]
plain, taught = their_tokenizer([PLACEHOLDER]), their_tokenizer([PLACEHOLDER, *tags])
sys.stdout.write(f"{prompt}\n")
sys.stdout.write(f"as plain text: {len(plain.encode(prompt).ids)} tokens\n")
sys.stdout.write(f"as {len(tags)} special tokens: {len(taught.encode(prompt).ids)} tokens\n")
try:
    wrap_view("vision", PLACEHOLDER)
except SettingError as error:  # Qwen's own markers cannot be taken by a camera
    sys.stdout.write(f"{error}\n")
