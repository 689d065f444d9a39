"""When an arm is where on its path: from postures to positions and velocities on a clock."""

from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vla_kit.errors import MissingExtraError

try:
    from ruckig import InputParameter, Result, Ruckig, Trajectory
    from scipy.interpolate import CubicSpline
except ImportError as error:
    raise MissingExtraError("ruckig (or scipy)", extra="synthesis") from error

__all__ = ["time_path"]

_SAMPLES: Final = 129  # of a path, to bound its derivatives
_SHARE: Final = 0.98  # of a limit that is used, for what lies between the samples
_RISE_S: Final = 0.1  # in which acceleration reaches its limit


def time_path(
    postures: Float[ndarray, "posture joint"],
    *,
    max_velocity: Float[ndarray, " joint"],
    max_acceleration: Float[ndarray, " joint"],
    length_m: float = 0.0,
    max_speed_m_s: float = float("inf"),
    rate_hz: float = 50.0,
) -> tuple[Float[ndarray, "step joint"], Float[ndarray, "step joint"]]:
    """Run along a path from rest to rest, as fast as limits allow, jerk-limited.

    The path is the cubic spline through the postures. Ruckig times one number, the share of the path that is done;
    its limits follow from the largest derivatives of the spline, half of the acceleration being kept for curvature.

    Args:
        postures: Joint positions to pass through, two or more [rad].
        max_velocity: Limit of each joint [rad/s].
        max_acceleration: Limit of each joint [rad/s^2].
        length_m: Way of the tool.
        max_speed_m_s: Limit of the tool's speed on average over the path.
        rate_hz: Rows per second. The last row is the last posture, at rest.

    Returns:
        Positions [rad] and velocities [rad/s] after the first posture, which is not among the rows.

    Examples:
        >>> positions, velocities = time_path(
        ...     np.array([[0.0], [1.0]]), max_velocity=np.array([2.0]), max_acceleration=np.array([5.0])
        ... )
        >>> float(positions[-1, 0]), float(abs(velocities[-1, 0]).round(6))
        (1.0, 0.0)
        >>> bool(velocities.max() <= 2.0)
        True
    """
    moved = np.abs(np.diff(postures, axis=0)).max(axis=1) > 1e-9
    postures = postures[np.concatenate([[True], moved])]
    if len(postures) < 2:
        return np.empty((0, postures.shape[1])), np.empty((0, postures.shape[1]))
    gaps = np.linalg.norm(np.diff(postures, axis=0), axis=1)
    knots = np.concatenate([[0.0], np.cumsum(gaps) / gaps.sum()])
    path = CubicSpline(knots, postures, bc_type="natural")
    along = np.linspace(0.0, 1.0, _SAMPLES)
    slope, bend = np.abs(path(along, 1)).max(axis=0), np.abs(path(along, 2)).max(axis=0)
    curved = bool((bend > 1e-9).any())
    velocity = _SHARE * float(np.min(max_velocity / np.maximum(slope, 1e-9)))
    if curved:
        velocity = min(velocity, _SHARE * float(np.sqrt(np.min(0.5 * max_acceleration / np.maximum(bend, 1e-9)))))
    if length_m > 0:
        velocity = min(velocity, max_speed_m_s / length_m)
    acceleration = _SHARE * (0.5 if curved else 1.0) * float(np.min(max_acceleration / np.maximum(slope, 1e-9)))
    timed = _ruckig(velocity, acceleration, rate_hz)
    num_steps = max(1, round(timed.duration * rate_hz))
    shares = np.empty((num_steps, 2))
    for step in range(num_steps):
        done, speed, _ = timed.at_time(min((step + 1) / rate_hz, timed.duration))
        shares[step] = done[0], speed[0]
    shares[-1] = 1.0, 0.0
    positions: ndarray = path(np.clip(shares[:, 0], 0.0, 1.0))
    positions[-1] = postures[-1]
    return positions, path(np.clip(shares[:, 0], 0.0, 1.0), 1) * shares[:, 1:]


def _ruckig(velocity: float, acceleration: float, rate_hz: float) -> Trajectory:
    """From 0 to 1 in a whole number of steps."""
    wanted = InputParameter(1)
    wanted.target_position = [1.0]
    wanted.max_velocity, wanted.max_acceleration = [velocity], [acceleration]
    wanted.max_jerk = [acceleration / _RISE_S]
    timed = Trajectory(1)
    for _ in range(2):
        result = Ruckig(1).calculate(wanted, timed)
        if result not in (Result.Working, Result.Finished):
            raise RuntimeError(f"ruckig found no timing: {result}")
        wanted.minimum_duration = float(np.ceil(timed.duration * rate_hz - 1e-6) / rate_hz)
    return timed
