"""How the public parts of `vla_kit.envs` are built that need a simulator, as far as they are installed."""

from contextlib import suppress

from contract_cases.probe import Case

from vla_kit.errors import MissingExtraError

CASES: list[Case] = []
WITHOUT_CASE: dict[str, str] = {}

_XML = '<mujoco><worldbody><camera name="above" pos="0 0 5"/></worldbody></mujoco>'

with suppress(MissingExtraError):
    import mujoco

    from vla_kit.envs.mujoco_camera import FreeCamera, ModelCameras

    CASES += [
        Case(
            FreeCamera,
            lambda folder: {
                "model": mujoco.MjModel.from_xml_string(_XML),
                "image_size": 32,
                "lookat": (0.0, 0.0, 0.3),
                "distance": 2.5,
                "azimuth": 90.0,
                "elevation": -30.0,
                "show_sites": True,
            },
        ),
        Case(
            ModelCameras,
            lambda folder: {
                "model": mujoco.MjModel.from_xml_string(_XML),
                "image_size": 32,
                "names": {"cam_high": "above"},
                "hidden_groups": [0],
            },
            meant={"hidden_groups": ("empty",)},  # everything is drawn
        ),
    ]

with suppress(MissingExtraError):
    from vla_kit.envs.metaworld import MetaWorldEnv, MetaWorldExpert
    from vla_kit.envs.metaworld_shifts import MetaWorldShift

    def _shift(name: str) -> dict[str, object]:
        env = MetaWorldEnv("reach")
        return {"name": name, "simulator": env._simulator, "camera": env._camera}

    CASES += [
        Case(
            MetaWorldEnv,
            lambda folder: {"task": "reach", "image_size": 32, "frame_skip": 4, "max_steps": 50, "shift": "light"},
        ),
        Case(MetaWorldExpert, lambda folder: {"env": MetaWorldEnv("reach")}),
        Case(MetaWorldShift, lambda folder: _shift("light"), named={"name": "shift"}),
    ]

with suppress(MissingExtraError):
    from vla_kit.envs.aloha import AlohaEnv
    from vla_kit.envs.aloha_expert import AlohaTransferExpert
    from vla_kit.envs.aloha_kinematics import ArmKinematics

    CASES += [
        Case(AlohaEnv, lambda folder: {"image_size": 32, "frame_skip": 4, "max_steps": 60}),
        Case(AlohaTransferExpert, lambda folder: {"env": AlohaEnv()}),
        Case(ArmKinematics, lambda folder: {"model": AlohaEnv()._physics.model.ptr, "side": "left"}),
    ]

with suppress(MissingExtraError):
    from vla_kit.envs.miniworld import MiniWorldEnv
    from vla_kit.envs.miniworld_expert import MiniWorldExpert

    CASES += [
        Case(MiniWorldEnv, lambda folder: {"task": "find-object", "image_size": 32, "max_steps": 40}),
        Case(MiniWorldExpert, lambda folder: {"env": MiniWorldEnv("find-object")}),
    ]

with suppress(MissingExtraError):
    from vla_kit.envs.ray_place import OnRay, RayEnv

    CASES += [
        Case(OnRay, lambda folder: {"address": "local", "cores": 0.25, "timeout_s": 60.0}),
        Case(RayEnv, lambda folder: {"cores": 0.25, "timeout_s": 60.0}),
    ]
