"""Changes of Meta-World's scenes, made in the compiled model: nothing is compiled anew, and physics stays as it is."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from vla_kit.envs._mujoco import mujoco
from vla_kit.envs.mujoco_camera import FreeCamera, Ornament
from vla_kit.errors import SettingError

__all__ = ["MetaWorldShift"]

_STREAM: Final = 7004
"""Keeps the draw of the change independent of the draw of the scene, which starts from the same seed."""

_TEXTURES: Final = ("T_table", "T_floor", "T_wallmetal")
_TABLE_M: Final = ((-0.42, 0.42), (0.45, 0.95))
_CLEAR_M: Final = 0.2  # from the middle of an object of the task
_APART_M: Final = 0.08
_FURNITURE: Final = frozenset({"world", "tablelink", "RetainingWall", "base"})


class MetaWorldShift:
    """One named change of a scene, drawn from the seed of each episode and undone before the next draw.

    `camera`, `light`, `texture` and `distractors` change what is drawn and nothing that is simulated: equal actions
    give equal states with them and without. `pose` moves where the hand starts; the objects stay.

    Args:
        name: Key of `vla_kit.envs.SHIFTS` that is no change of words.
        simulator: Meta-World's environment.
        camera: Draws its pictures.

    Raises:
        SettingError: If there is no such change.
    """

    def __init__(self, name: str, simulator: Any, camera: FreeCamera) -> None:  # noqa: ANN401 (untyped library)
        if name not in _CHANGES and name != "pose":
            raise SettingError(f"shift must be one of {sorted([*_CHANGES, 'pose'])}, got {name!r}. Check the spelling.")
        self._name = name
        self._simulator, self._camera = simulator, camera
        self._hand = np.array(simulator.hand_init_pos, dtype=np.float64)
        self._undo: Callable[[], None] = lambda: None

    def before_reset(self, seed: int) -> None:
        """Undo the change of the episode before, and move where the hand will start."""
        self._undo()
        if self._name == "pose":
            rng = np.random.default_rng([seed, _STREAM])
            offset = np.array([_either_side(rng, 0.08, 0.14), rng.uniform(0.0, 0.05), rng.uniform(0.0, 0.08)])
            limits = self._simulator.mocap_low, self._simulator.mocap_high
            self._simulator.hand_init_pos = np.clip(self._hand + offset, *limits)

    def after_reset(self, seed: int) -> None:
        """Change what is drawn."""
        if self._name != "pose":
            rng = np.random.default_rng([seed, _STREAM])
            self._undo = _CHANGES[self._name](self._simulator, self._camera, rng)


def _either_side(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.choice([-1.0, 1.0]) * rng.uniform(low, high))


def _move_camera(simulator: Any, camera: FreeCamera, rng: np.random.Generator) -> Callable[[], None]:  # noqa: ANN401 (untyped library)
    place = camera.place
    camera.place = place._replace(
        azimuth=place.azimuth + _either_side(rng, 8.0, 15.0),
        elevation=place.elevation + _either_side(rng, 4.0, 8.0),
        distance=place.distance * (1.0 + _either_side(rng, 0.05, 0.1)),
    )

    def undo() -> None:
        camera.place = place

    return undo


def _change_light(simulator: Any, camera: FreeCamera, rng: np.random.Generator) -> Callable[[], None]:  # noqa: ANN401 (untyped library)
    model = simulator.model
    headlight = model.vis.headlight
    strengths = [model.light_diffuse, model.light_specular, headlight.ambient, headlight.diffuse]
    before = [array.copy() for array in (*strengths, model.light_dir)]
    factor = rng.uniform(0.35, 0.6) if rng.random() < 0.5 else rng.uniform(1.4, 1.8)
    tint = rng.uniform(0.75, 1.0, size=3)
    for array in strengths:
        array[:] = np.clip(array * factor * tint, 0.0, 1.0)
    angle = np.deg2rad(_either_side(rng, 45.0, 180.0))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    model.light_dir[:] = model.light_dir @ turn.T
    mujoco.mj_camlight(model, simulator.data)  # the scene takes directions from the data

    def undo() -> None:
        for array, content in zip((*strengths, model.light_dir), before, strict=True):
            array[:] = content

    return undo


def _change_textures(simulator: Any, camera: FreeCamera, rng: np.random.Generator) -> Callable[[], None]:  # noqa: ANN401 (untyped library)
    model = simulator.model
    before = []
    for name in _TEXTURES:
        texture = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_TEXTURE, name)
        height, width, colours = (int(a[texture]) for a in (model.tex_height, model.tex_width, model.tex_nchannel))
        start = int(model.tex_adr[texture])
        pixels = model.tex_data[start : start + height * width * colours].reshape(height, width, colours)
        before.append((texture, pixels, pixels.copy()))
        first, second = rng.integers(0, 256, (2, 3), dtype=np.uint8)
        along = np.arange(width)[None, :] if rng.random() < 0.5 else np.arange(height)[:, None]
        stripes = (along // max(1, width // int(rng.integers(4, 17)))) % 2 == 0
        pixels[..., :3] = np.where(np.broadcast_to(stripes, (height, width))[..., None], first, second)
        camera.refresh_texture(texture)

    def undo() -> None:
        for texture, pixels, content in before:
            pixels[:] = content
            camera.refresh_texture(texture)

    return undo


def _add_distractors(simulator: Any, camera: FreeCamera, rng: np.random.Generator) -> Callable[[], None]:  # noqa: ANN401 (untyped library)
    kept_clear = _places_of_the_task(simulator, with_goals=camera.show_sites)
    taken = np.full((1, 2), np.inf)
    ornaments: list[Ornament] = []
    while len(ornaments) < 4:
        place = np.array([rng.uniform(*_TABLE_M[0]), rng.uniform(*_TABLE_M[1])])
        shape = ("box", "ball", "cylinder")[int(rng.integers(3))]
        radius = float(rng.uniform(0.02, 0.035))
        colour = rng.permutation([rng.uniform(0.0, 0.3), rng.uniform(0.0, 1.0), rng.uniform(0.7, 1.0)])
        clear = np.linalg.norm(kept_clear - place, axis=1).min() >= _CLEAR_M
        if clear and np.linalg.norm(taken - place, axis=1).min() >= _APART_M:
            ornaments.append(Ornament(shape, radius=radius, position=(*place.tolist(), radius), colour=tuple(colour)))
            taken = np.concatenate([taken, place[None]])
    camera.ornaments = tuple(ornaments)

    def undo() -> None:
        camera.ornaments = ()

    return undo


def _places_of_the_task(simulator: Any, *, with_goals: bool) -> np.ndarray:  # noqa: ANN401 (untyped library)
    """Where hand and objects stand on the table [m], and goals where they are seen: a hidden one must not be told."""
    model, data = simulator.model, simulator.data
    roots = [model.body(int(root)).name for root in model.body_rootid]
    objects = [body for body, root in enumerate(roots) if root not in _FURNITURE]
    places = [data.xpos[objects, :2], simulator.tcp_center[None, :2]]
    return np.concatenate([*places, data.site_xpos[:, :2]] if with_goals else places)


_CHANGES: Final[dict[str, Callable[[Any, FreeCamera, np.random.Generator], Callable[[], None]]]] = {
    "camera": _move_camera,
    "light": _change_light,
    "texture": _change_textures,
    "distractors": _add_distractors,
}
