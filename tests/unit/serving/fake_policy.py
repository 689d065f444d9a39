"""A policy whose answers can be told by hand, and clients of its server."""

import threading
import time

import numpy as np

from vla_kit.actions import ActionSpace, ChannelGroup
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec


def robot(name, size, chunk):
    space = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=size)])
    return EmbodimentSpec(name, robot_tag=name, rate_hz=10, chunk_size=chunk, action_space=space, arms="single")


class FakePolicy:
    """Answers with the first number of the first picture; does what the instruction says."""

    def __init__(self, *, seconds=0.0):
        self.prompter = EmbodimentPrompter([robot("arm", 2, 4), robot("crane", 3, 6)])
        self.states = None
        self.seconds = seconds
        self.batches = []  # sizes, the warm-up's included
        self.gate = threading.Event()  # closed by a test that wants the policy to be busy
        self.gate.set()

    def act(self, observations):
        self.batches.append(len(observations))
        time.sleep(self.seconds)
        self.gate.wait(30)
        words = [observation.instruction for observation in observations]
        if "burn" in words:
            raise RuntimeError("the arm burns")
        return [self._chunk(observation) for observation in observations]

    def _chunk(self, observation):
        spec = self.prompter.spec(observation.embodiment)
        first = next(iter(observation.views.values()))
        value = np.nan if observation.instruction == "vanish" else float(first.reshape(-1)[0])
        return np.full((spec.chunk_size, spec.action_space.size), value, dtype=np.float32)


def picture(value=0, size=8):
    return np.full((size, size, 3), value, dtype=np.uint8)


def seen(value=0, **more):
    """A message with openpi's keys."""
    return {"observation/image": picture(value), "prompt": "push", "embodiment": "arm"} | more
