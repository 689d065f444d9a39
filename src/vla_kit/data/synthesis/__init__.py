"""Synthetic language-action trajectories of single arms: no pictures, no physics, feasible and free of collisions."""

from vla_kit.data.synthesis.arm import Arm, arm_names, find_arm
from vla_kit.data.synthesis.sentences import sentences
from vla_kit.data.synthesis.synthesize import synthesize
from vla_kit.data.synthesis.template_names import TEMPLATES, TemplateName

__all__ = ["TEMPLATES", "Arm", "TemplateName", "arm_names", "find_arm", "sentences", "synthesize"]
