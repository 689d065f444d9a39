"""MuJoCo cameras that render fast in software.

Importing this file sets `MUJOCO_GL=egl` in the environment of the process, unless it is set already or MuJoCo was
imported before: MuJoCo reads it once. Export it yourself (`osmesa`, `glfw`) to choose another renderer.

Shadows and multi-sampling are switched off in the model: they cost ten times the rest of a frame in software. So build
the camera before anything else renders the model, and do not compare its pictures with those of other settings.
"""

import atexit
import math
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vla_kit.envs._mujoco import check_renderer, mujoco, no_renderer
from vla_kit.envs.protocol import Pictures, SimulationError, check_frame
from vla_kit.errors import SettingError

__all__ = ["CameraPlace", "FreeCamera", "ModelCameras", "Ornament"]

_SHAPES = {
    "ball": mujoco.mjtGeom.mjGEOM_SPHERE,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
}


class CameraPlace(NamedTuple):
    """Where a free camera is and looks; see `FreeCamera`."""

    lookat: tuple[float, float, float]
    distance: float
    azimuth: float
    elevation: float


class Ornament(NamedTuple):
    """Something that is drawn and not simulated: an upright `box`, `ball` or `cylinder` as high as it is wide.

    `radius` is half of its width and `position` its middle [m]; `colour` is RGB in [0, 1].
    """

    shape: str
    radius: float
    position: tuple[float, float, float]
    colour: tuple[float, float, float]


class FreeCamera:
    """Renders one square view of a MuJoCo model, from a camera that belongs to no body.

    The graphics context is made at the first picture: simulating without looking needs no renderer.

    Args:
        model: The `mujoco.MjModel`.
        image_size: Height and width of a picture [pixels].
        lookat: Point in the middle of the picture [m].
        distance: From that point to the camera [m].
        azimuth: Direction of view around the vertical axis [degree]; 90 looks along +y.
        elevation: Angle of view against the horizontal [degree]; negative looks down.
        show_sites: Whether MuJoCo sites (goal markers) are drawn.

    Raises:
        SettingError: If `image_size` or `distance` is not positive, or a number is not finite.

    Examples:
        >>> import mujoco
        >>> xml = '<mujoco><worldbody><light pos="0 0 3"/><geom type="box" size="1 1 1"/></worldbody></mujoco>'
        >>> model = mujoco.MjModel.from_xml_string(xml)
        >>> data = mujoco.MjData(model)
        >>> mujoco.mj_forward(model, data)
        >>> camera = FreeCamera(model, image_size=32, lookat=(0, 0, 0), distance=5, azimuth=30, elevation=-30)
        >>> camera.render(data, tag="cam_high").shape
        (32, 32, 3)
        >>> camera.close()
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401  (mujoco.MjModel, whose stubs are not part of every release)
        *,
        image_size: int,
        lookat: tuple[float, float, float],
        distance: float,
        azimuth: float,
        elevation: float,
        show_sites: bool = False,
    ) -> None:
        self._screen = _Screen(model, image_size=image_size)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self.place = CameraPlace(lookat, distance, azimuth, elevation)
        self.ornaments: tuple[Ornament, ...] = ()
        self._stale_textures: set[int] = set()
        self.show_sites = show_sites
        self._option = mujoco.MjvOption()
        if not show_sites:
            self._option.sitegroup[:] = 0

    @property
    def place(self) -> CameraPlace:
        """Where the camera is and looks; may be set at any time.

        Raises:
            SettingError: If `distance` is not positive, or a number is not finite.
        """
        return self._place

    @place.setter
    def place(self, place: CameraPlace) -> None:
        if len(place.lookat) != 3 or not np.isfinite(place.lookat).all():
            raise SettingError(f"lookat must be three finite numbers, got {place.lookat}. Give x, y and z [m].")
        if not 0 < place.distance < math.inf:
            raise SettingError(f"distance must be above 0 and finite, got {place.distance}. Give metres.")
        for name in ("azimuth", "elevation"):
            if not math.isfinite(getattr(place, name)):
                raise SettingError(f"{name} must be finite, got {getattr(place, name)}. Give degrees.")
        self._place = place
        self._camera.lookat[:] = place.lookat
        self._camera.distance, self._camera.azimuth, self._camera.elevation = place[1:]

    def refresh_texture(self, texture: int) -> None:
        """Draw from now on what `model.tex_data` holds for a texture.

        Args:
            texture: Its number in the model.
        """
        self._stale_textures.add(texture)

    def render(self, data: Any, *, tag: str) -> UInt8[np.ndarray, "height image_width 3"]:  # noqa: ANN401  (MjData)
        """Draw the scene as it stands in `data`.

        Args:
            data: The `mujoco.MjData` that belongs to the model.
            tag: Name of the view, for messages.

        Returns:
            RGB in [0, 255], upright, a new array.

        Raises:
            SimulationError: If no renderer works here, the picture is constant, or the camera is closed.
        """
        picture = self._screen.render(
            data,
            camera=self._camera,
            option=self._option,
            tag=tag,
            ornaments=self.ornaments,
            stale_textures=self._stale_textures,
        )
        self._stale_textures.clear()
        return picture

    def close(self) -> None:
        """Free the graphics context; closing twice is fine."""
        self._screen.close()


class ModelCameras:
    """Renders square views from cameras that the MuJoCo model itself holds, such as one on a wrist.

    All views share one graphics context, made at the first picture.

    Args:
        model: The `mujoco.MjModel`.
        image_size: Height and width of a picture [pixels].
        names: View tag -> name of the camera in the model, in the order of the pictures.
        hidden_groups: Groups of geoms that are not drawn, such as collision shapes.

    Raises:
        SettingError: If `image_size` is not positive, there is no name, or the model has no such camera.

    Examples:
        >>> import mujoco
        >>> xml = '''<mujoco><worldbody><light pos="0 0 3"/><geom type="box" size="1 1 1"/>
        ...     <camera name="above" pos="0 0 5"/></worldbody></mujoco>'''
        >>> model = mujoco.MjModel.from_xml_string(xml)
        >>> data = mujoco.MjData(model)
        >>> mujoco.mj_forward(model, data)
        >>> cameras = ModelCameras(model, image_size=32, names={"cam_high": "above"})
        >>> {tag: picture.shape for tag, picture in cameras.render(data).items()}
        {'cam_high': (32, 32, 3)}
        >>> cameras.close()
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401  (mujoco.MjModel)
        *,
        image_size: int,
        names: Mapping[str, str],
        hidden_groups: Sequence[int] = (),
    ) -> None:
        if not names:
            raise SettingError("names must hold at least one camera, got none. Write view tag: name in the model.")
        there = [model.camera(index).name for index in range(model.ncam)]
        for name in names.values():
            if name not in there:
                raise SettingError(f"names must be cameras of the model, {there}, got {name!r}. Choose among them.")
        self._screen = _Screen(model, image_size=image_size)
        self._names = dict(names)
        self._option = mujoco.MjvOption()
        for group in hidden_groups:
            self._option.geomgroup[group] = 0

    def render(self, data: Any) -> Pictures:  # noqa: ANN401  (mujoco.MjData)
        """Draw all views of the scene as it stands in `data`.

        Args:
            data: The `mujoco.MjData` that belongs to the model.

        Returns:
            View tag -> RGB in [0, 255], upright, new arrays.

        Raises:
            SimulationError: If no renderer works here, a picture is constant, or the cameras are closed.
        """
        return {
            tag: self._screen.render(data, camera=name, option=self._option, tag=tag)
            for tag, name in self._names.items()
        }

    def close(self) -> None:
        """Free the graphics context; closing twice is fine."""
        self._screen.close()


class _Screen:
    """The graphics context of one model, made at the first picture and freed without harm to those of others."""

    def __init__(self, model: Any, *, image_size: int) -> None:  # noqa: ANN401  (mujoco.MjModel)
        if image_size < 1:
            raise SettingError(f"image_size must be >= 1, got {image_size}. 96 is enough for the demo.")
        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, image_size)
        model.vis.global_.offheight = max(model.vis.global_.offheight, image_size)
        self._model = model
        self._image_size = image_size
        self._renderer: Any = None
        self._closed = False

    def render(
        self,
        data: Any,  # noqa: ANN401  (mujoco.MjData)
        *,
        camera: Any,  # noqa: ANN401  (mujoco.MjvCamera, or a name)
        option: Any,  # noqa: ANN401  (mujoco.MjvOption)
        tag: str,
        ornaments: Sequence[Ornament] = (),
        stale_textures: Collection[int] = (),
    ) -> UInt8[np.ndarray, "height image_width 3"]:
        if self._closed:
            raise SimulationError("render must come before close, got a closed camera. Make a new environment.")
        if self._renderer is None:
            check_renderer()
            try:
                self._renderer = mujoco.Renderer(self._model, self._image_size, self._image_size)
            except Exception as error:  # the bindings raise whatever the driver gives them
                raise no_renderer(error) from error
            atexit.register(_close, weakref.ref(self))  # runs before MuJoCo ends EGL, as it was registered after
        renderer = self._renderer
        renderer.update_scene(data, camera=camera, scene_option=option)
        for ornament in ornaments:
            _draw(renderer.scene, ornament)
        if stale_textures:
            renderer.render()  # makes its context current
            for texture in stale_textures:
                mujoco.mjr_uploadTexture(self._model, renderer._mjr_context, texture)
        return check_frame(renderer.render(), tag=tag)

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.render()  # makes its context current: freed in another's, it would blacken that one
            self._renderer.close()
            self._renderer = None
        self._model = None
        self._closed = True

    def __del__(self) -> None:
        if getattr(self, "_renderer", None) is not None:
            self.close()


def _draw(scene: Any, ornament: Ornament) -> None:  # noqa: ANN401 (mujoco.MjvScene)
    """Add an ornament to what is drawn next."""
    mujoco.mjv_initGeom(
        scene.geoms[scene.ngeom],
        _SHAPES[ornament.shape],
        np.full(3, ornament.radius),
        np.array(ornament.position, dtype=np.float64),
        np.eye(3).reshape(-1),
        np.array([*ornament.colour, 1.0], dtype=np.float32),
    )
    scene.ngeom += 1


def _close(screen: "weakref.ref[_Screen]") -> None:
    """Close a screen that nobody closed, if it is still there when the interpreter ends."""
    alive = screen()
    if alive is not None:
        alive.close()
