"""VRM animation (.vrma): the glTF of gltf.py without a body, and which node is which bone of a VRM humanoid."""

from __future__ import annotations

from typing import BinaryIO

from model.files.animation import Animation
from model.files.writers.gltf import Data, document_of, write_document
from model.skeleton import INDEX

_SIDES = {
    "collar": "Shoulder", "shoulder": "UpperArm", "elbow": "LowerArm", "wrist": "Hand",
    "hip": "UpperLeg", "knee": "LowerLeg", "ankle": "Foot", "foot": "Toes",
}  # fmt: skip
# A bone begins at its joint: our elbow turns the lower arm. Our hands (the knuckles) are no bone of VRM's.
HUMAN_BONES = {
    "hips": "pelvis", "spine": "spine1", "chest": "spine2", "upperChest": "spine3", "neck": "neck", "head": "head",
    **{f"{side}{bone}": f"{side}_{joint}" for side in ("left", "right") for joint, bone in _SIDES.items()},
}  # fmt: skip


def write_vrma(animation: Animation, file: BinaryIO) -> None:
    """Writes an animation for avatars. The rest pose is a T-pose that faces +Z, as VRM 1.0 has it."""
    data = Data()
    document = document_of(animation, data)
    bones = {bone: {"node": INDEX[joint]} for bone, joint in HUMAN_BONES.items()}
    document["extensionsUsed"] = ["VRMC_vrm_animation"]
    document["extensions"] = {"VRMC_vrm_animation": {"specVersion": "1.0", "humanoid": {"humanBones": bones}}}
    write_document(document, data, file)
