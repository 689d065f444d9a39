"""Forward kinematics of a URDF by products of matrix exponentials: no MuJoCo, nothing of vla-kit."""

import xml.etree.ElementTree as ElementTree

import numpy as np
from scipy.linalg import expm
from scipy.spatial.transform import Rotation


def tool_poses(arm, joints):
    """Positions [step, 3] and rotation matrices [step, 3, 3] of the tool in the frame of the root link."""
    root = ElementTree.parse(arm.model).getroot()
    by_child = {
        joint.find("child").get("link"): joint for joint in root.findall("joint") if joint.find("child") is not None
    }
    chain, link = [], arm.flange
    while link in by_child:
        chain.insert(0, by_child[link])
        link = by_child[link].find("parent").get("link")
    at_zero, screws = np.eye(4), []
    for joint in chain:
        at_zero = at_zero @ _origin(joint)
        if joint.get("name") in arm.joints:
            axis = at_zero[:3, :3] @ _floats(joint.find("axis").get("xyz"))
            screws.append((arm.joints.index(joint.get("name")), _screw(axis, at_zero[:3, 3])))
    tool = np.eye(4)
    w, x, y, z = arm.tool_quaternion_wxyz
    tool[:3, :3] = Rotation.from_quat([x, y, z, w]).as_matrix()
    tool[:3, 3] = arm.tool_m
    poses = np.empty((len(joints), 4, 4))
    for step, row in enumerate(joints):
        pose = np.eye(4)
        for number, screw in screws:
            pose = pose @ expm(screw * row[number])
        poses[step] = pose @ at_zero @ tool
    return poses[:, :3, 3], poses[:, :3, :3]


def _origin(joint):
    pose, origin = np.eye(4), joint.find("origin")
    if origin is not None:
        pose[:3, 3] = _floats(origin.get("xyz", "0 0 0"))
        pose[:3, :3] = Rotation.from_euler("xyz", _floats(origin.get("rpy", "0 0 0"))).as_matrix()
    return pose


def _screw(axis, point):
    moment = -np.cross(axis, point)
    return np.array(
        [
            [0, -axis[2], axis[1], moment[0]],
            [axis[2], 0, -axis[0], moment[1]],
            [-axis[1], axis[0], 0, moment[2]],
            [0, 0, 0, 0],
        ],
        dtype=float,
    )


def _floats(text):
    return np.array([float(number) for number in text.split()])
