"""Brings an expert to where a policy errs, so that demonstrations begin there."""

import numpy as np
from torch import Generator

from vla_kit.envs import PolicyEnv, robot_state
from vla_kit.errors import SettingError
from vla_kit.evaluation.rollout import ChunkPolicy
from vla_kit.policy import ChunkExecutor, PolicyObservation

__all__ = ["PolicyStart"]


class PolicyStart:
    """Lets a policy act for some chunks at the start of an episode; give it to `collect` as `start`.

    A policy that was trained on an expert's episodes has never seen where its own errors lead. Demonstrations that
    begin there teach the way back. The expert has to be able to go on from anywhere, as those of Meta-World are; one
    that follows a plan from the first step is not.

    Args:
        policy: Answers observations with chunks.
        chunks: Fewest and most chunks that the policy carries out; each episode draws from its seed.
        replan_every: Actions of each chunk that are carried out.

    Raises:
        SettingError: If `chunks` is no range of numbers from 1 on, or `replan_every` is below 1.

    Examples:
        >>> from vla_kit.envs import make_env
        >>> class Still:
        ...     def act(self, observations, *, generator):
        ...         return [np.zeros((16, 4)) for _ in observations]
        >>> start, env = PolicyStart(Still(), chunks=(1, 2)), make_env("metaworld/reach")
        >>> _ = env.reset(0)
        >>> start(env, 0)
        True
        >>> env.close()

    Source:
        Not in Qwen-VLA. The expert answers on states that the policy reached, as in DAgger (arXiv 1011.0686); it takes
        over for the rest of the episode, as in HG-DAgger (arXiv 1810.02890), so that chunks are its own throughout.
    """

    def __init__(self, policy: ChunkPolicy, *, chunks: tuple[int, int] = (1, 2), replan_every: int = 16) -> None:
        if len(chunks) != 2 or not 1 <= chunks[0] <= chunks[1]:
            raise SettingError(f"chunks must be (fewest, most) with 1 <= fewest <= most, got {chunks}. Use (1, 2).")
        ChunkExecutor(replan_every=replan_every)
        self.policy = policy
        self.chunks = (chunks[0], chunks[1])
        self.replan_every = replan_every

    def __call__(self, env: PolicyEnv, seed: int) -> bool:
        """Act; tells whether the episode goes on."""
        fewest, most = self.chunks
        count = int(np.random.default_rng([seed, _STREAM]).integers(fewest, most + 1))
        executor, generator = ChunkExecutor(replan_every=self.replan_every), Generator().manual_seed(seed)
        for _ in range(count):
            seen = PolicyObservation(
                embodiment=env.embodiment, instruction=env.instruction, views=env.look(), state=robot_state(env)
            )
            (chunk,) = self.policy.act([seen], generator=[generator])
            executor.give(chunk)
            while not executor.needs_chunk:
                if env.step(executor.next()).done:
                    return False
        return True


_STREAM = 7003
"""Keeps the draw of the chunks independent of the draw of the scene, which starts from the same seed."""
