"""Robots in words: specs, prompts, view boundaries, histories of frames and ready embodiments."""

from vla_kit.embodiment.history import History
from vla_kit.embodiment.presets import PRESETS, preset
from vla_kit.embodiment.prompter import EmbodimentPrompter
from vla_kit.embodiment.prompts import write_prompts
from vla_kit.embodiment.spec import Arms, EmbodimentSpec, Task
from vla_kit.embodiment.state_scaler import StateScaler
from vla_kit.embodiment.state_text import state_bins, state_from_bins, state_text
from vla_kit.embodiment.views import check_view_tag, frame_token, view_tokens, wrap_view

__all__ = [
    "PRESETS",
    "Arms",
    "EmbodimentPrompter",
    "EmbodimentSpec",
    "History",
    "StateScaler",
    "Task",
    "check_view_tag",
    "frame_token",
    "preset",
    "state_bins",
    "state_from_bins",
    "state_text",
    "view_tokens",
    "wrap_view",
    "write_prompts",
]
