"""A saved policy as a model server of vla-eval.

Run: python -m vla_kit.serving.vla_eval_server --config server.yaml --port 8000
"""

import logging
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from vla_kit.errors import DataError, MissingExtraError, SettingError
from vla_kit.policy import PolicyObservation
from vla_kit.serving._saved import open_saved
from vla_kit.serving.observation_keys import ObservationKeys, ObservationReader
from vla_kit.serving.served_policy import state_sizes

try:
    from vla_eval.model_servers.base import SessionContext
    from vla_eval.model_servers.predict import PredictModelServer
    from vla_eval.model_servers.serve import run_server
    from vla_eval.specs import IMAGE_RGB, LANGUAGE, RAW, DimSpec
except ImportError as error:
    raise MissingExtraError("vla_eval", extra="vla-eval") from error

__all__ = ["VLAEvalServer"]

_LOG: Final = logging.getLogger(__name__)
_ENSEMBLES: Final = ("newest", "average", "ema")  # vla-eval raises on another word once it has a chunk


class VLAEvalServer(PredictModelServer):
    """Answers the benchmarks of vla-eval with a saved policy, many episodes in one batch.

    Transport, batching and chunk buffers are vla-eval's own. A message that the policy should not see is refused
    before it joins a batch.

    Args:
        checkpoint: Folder that `Policy.save` wrote.
        embodiment: Robot of the benchmark, as the policy knows it.
        views: View tag -> camera of the benchmark, in the order in which the views enter the sequence.
        state: Key of the benchmark's state, used where the policy reads the state of this robot.
        device: Where the policy computes; on the first GPU, else the CPU, where None.
        chunk_size: Actions carried out of each chunk; the whole chunk where None.
        action_ensemble: How vla-eval blends chunks that overlap.
        max_batch_size: Most observations that the policy answers at once.
        max_wait_time: Longest wait for a fuller batch [s].
        warm_up_size: Height and width of the pictures on which the policy is warmed up [pixel].

    Raises:
        CheckpointError: If `checkpoint` is no saved policy.
        EmbodimentError: If the policy does not know the robot.
        SettingError: If there is no view, or an argument breaks its rule.
        MissingExtraError: On import, if vla-eval is not installed.

    Source:
        vla-eval's `PredictModelServer` (github.com/allenai/vla-evaluation-harness).
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        embodiment: str,
        views: dict[str, str],
        state: str = "states",
        device: str | None = None,
        chunk_size: int | None = None,
        action_ensemble: str = "newest",
        max_batch_size: int = 8,
        max_wait_time: float = 0.01,
        warm_up_size: int = 224,
    ) -> None:
        robot = ObservationKeys(
            embodiment=embodiment,
            views={tag: f"images/{camera}" for tag, camera in views.items()},
            instruction="task_description",
            state=state,
        )
        counts = {"chunk_size": chunk_size, "max_batch_size": max_batch_size, "warm_up_size": warm_up_size}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise SettingError(f"{name} must be at least 1, got {count}. Leave it out for the default.")
        if not 0 <= max_wait_time < math.inf:
            raise SettingError(f"max_wait_time must be at least 0 and finite, got {max_wait_time}. Give seconds.")
        if action_ensemble not in _ENSEMBLES:
            raise SettingError(
                f"action_ensemble must be one of {list(_ENSEMBLES)}, got {action_ensemble!r}. Use newest."
            )
        self._policy = open_saved(checkpoint, device=device)
        spec = self._policy.prompter.spec(embodiment)
        super().__init__(
            chunk_size=spec.chunk_size if chunk_size is None else chunk_size,
            action_ensemble=action_ensemble,
            max_batch_size=max_batch_size,
            max_wait_time=max_wait_time,
        )
        self._embodiment, self._cameras = embodiment, list(views.values())
        self._reader = ObservationReader([robot], state_sizes=state_sizes(self._policy))
        for size in (1, max_batch_size):
            self._policy.act(self._reader.blanks(warm_up_size) * size)
        _LOG.info("ready: %s, %d actions of each chunk", embodiment, self.chunk_size)

    async def on_observation(self, obs: dict[str, Any], ctx: SessionContext) -> None:
        """Read the message, then let vla-eval put it into a batch."""
        await super().on_observation(self._reader(obs), ctx)

    def predict_batch(
        self, obs_batch: Sequence[PolicyObservation], ctx_batch: Sequence[SessionContext]
    ) -> list[dict[str, Any]]:
        """Answer a batch of observations with a chunk each."""
        chunks = self._policy.act(obs_batch)
        if not all(np.isfinite(chunk).all() for chunk in chunks):
            raise DataError("actions must be finite, got NaN or infinity. Check the policy's weights.")
        return [{"actions": chunk} for chunk in chunks]

    def get_action_spec(self) -> dict[str, DimSpec]:
        """Actions are native to the data on which the policy was trained."""
        return {"actions": RAW}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        """The cameras, the words, and the state where the policy reads it."""
        state = {"state": RAW} if self._embodiment in self._reader.state_sizes else {}
        return {**dict.fromkeys(self._cameras, IMAGE_RGB), "language": LANGUAGE, **state}

    def get_observation_params(self) -> dict[str, Any]:
        """Ask the benchmark for its second camera and the state where the policy needs them."""
        wanted = {
            "send_wrist_image": len(self._cameras) > 1,
            "send_state": self._embodiment in self._reader.state_sizes,
        }
        return {name: True for name, needed in wanted.items() if needed}


if __name__ == "__main__":
    run_server(VLAEvalServer)
