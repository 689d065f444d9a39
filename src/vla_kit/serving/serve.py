"""The verb `vla-kit serve`: a saved policy behind openpi's websocket protocol."""

import logging
from pathlib import Path

from vla_kit.errors import SettingError
from vla_kit.serving._saved import open_saved
from vla_kit.serving.observation_keys import ObservationKeys

__all__ = ["serve"]


def serve(
    checkpoint: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    robots: list[ObservationKeys] | None = None,
    token_file: str | None = None,
    device: str | None = None,
    max_batch: int = 8,
    max_wait_ms: float = 5.0,
    max_queue: int = 64,
    max_connections: int = 64,
    max_message_mb: float = 16.0,
    max_rate_hz: float = 100.0,
    warm_up_size: int = 224,
    shutdown_s: float = 30.0,
) -> None:
    """Serve a saved policy until SIGTERM or Ctrl-C: an unmodified openpi-client gets its actions from it.

    Args:
        checkpoint: Folder that `Policy.save` wrote.
        host: Address to listen on. One that other machines can reach needs `token_file`.
        port: Port.
        robots: Robots to serve, and where their messages keep pictures, words and state; all that the policy knows,
            with openpi's keys, where None.
        token_file: File with the secret that clients must send, openpi-client as its `api_key`.
        device: Where the policy computes, such as `cuda:1`; on the first GPU, else the CPU, where None.
        max_batch: Most observations that the policy answers at once.
        max_wait_ms: Longest wait for clients that were just answered to ask again and share a batch [ms].
        max_queue: Most requests that may wait; further ones are refused.
        max_connections: Most clients at once.
        max_message_mb: Largest message [MB].
        max_rate_hz: Requests per second that one client may send on average.
        warm_up_size: Height and width of the pictures on which the policy is warmed up [pixel].
        shutdown_s: Longest time that a shutdown waits for the requests that were accepted [s]; a batch that the policy
            has begun is waited for in any case.

    Raises:
        CheckpointError: If `checkpoint` is no saved policy.
        SettingError: If an argument breaks its rule.
    """
    from vla_kit.serving.server import PolicyServer  # an extra

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    policy = open_saved(checkpoint, device=device)
    server = PolicyServer(
        policy,
        robots=robots or [ObservationKeys(embodiment=name) for name in policy.prompter.names],
        token=None if token_file is None else _read_token(Path(token_file)),
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        max_queue=max_queue,
        max_connections=max_connections,
        max_message_mb=max_message_mb,
        max_rate_hz=max_rate_hz,
        warm_up_size=warm_up_size,
        shutdown_s=shutdown_s,
    )
    server.run(host, port)


def _read_token(path: Path) -> str:
    if not path.is_file():
        raise SettingError(f"token_file must name a file, got {str(path)!r}. Write the secret into one.")
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise SettingError(
            f"token_file must hold text, got {str(path)!r}: {error}. Write the secret into it."
        ) from error
