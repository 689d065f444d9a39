"""A simulator driven with random actions, for worker processes that import it."""

import numpy as np

from vla_kit.envs import PolicyEnv, random_actions


def drive(env: PolicyEnv, seed: int, look_every: int) -> int:
    """Decisions of an episode with random actions; a picture before every so many of them, none where 0."""
    rng = np.random.default_rng(seed)
    env.reset(seed)
    steps, done = 0, False
    while not done:
        if look_every and steps % look_every == 0:
            env.look()
        done = env.step(random_actions(env.action_low, env.action_high, rng=rng)[0]).done
        steps += 1
    return steps
