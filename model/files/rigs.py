"""Which node of a source skeleton drives which canonical joint: CMU (ASF and cgspeed BVH), CMU dance, humanoid BVH.

A rig is recognised by its joint names, never by its file name; each function turns a Tree into a Recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from model.files.humanoid import humanoid_recipe
from model.files.retarget import Recipe, new_recipe, set_joint
from model.files.stance import metres_per_unit
from model.files.tree import Floats, Tree
from model.skeleton import INDEX

_SIZE = ("root", "lfemur", "lfoot", "head")  # what a body is measured by
# Where our pivots stand on the CMU bones. Its lower back, upper back, thorax and clavicles turn about their starts,
# all on the spine's line: ours stand a fraction along, so that pelvis and chest are rigid with well-defined frames.
_LOW, _MID, _UP, _CLAVICLE, _NECK, _HEAD = 0.2, 0.35, 0.35, 0.35, 0.7, 1.0
# cgspeed's BVH leaves out two bones of CMU's skeleton. Over CMU's 22 ASF files here the thorax is the upper back times
# 1.012 (sd 0.012), tilted forward by 0.035 (sd 0.03), and the wrist bone is half the radius to 1e-5.
_THORAX_FROM_UPPERBACK, _THORAX_TILT, _WRIST_FROM_RADIUS = 1.012, 0.035, 0.5

_CGSPEED = {
    "lowerback": ("LowerBack", "lowerback"), "upperback": ("Spine", "Chest"), "thorax": ("Spine1", "Chest2"),
    "lowerneck": ("Neck", "lowerneck"), "upperneck": ("Neck1", "Neck"), "head": ("Head",),
    "lclavicle": ("LeftShoulder", "LeftCollar"), "lhumerus": ("LeftArm", "LeftShoulder"),
    "lradius": ("LeftForeArm", "LeftElbow"), "lwrist": ("LeftHand", "LeftWrist"), "lhand": ("LeftFingerBase", "lhand"),
    "lfingers": ("LeftHandIndex1", "LFingers"), "lfemur": ("LeftUpLeg", "LeftHip"), "ltibia": ("LeftLeg", "LeftKnee"),
    "lfoot": ("LeftFoot", "LeftAnkle"), "ltoes": ("LeftToeBase", "LeftToe"),
}  # fmt: skip


def _cgspeed_names(tree: Tree) -> dict[str, str]:
    """CMU bone name -> node of a cgspeed BVH: two spellings are in use, by the name of the thigh; some files mix them.

    Empty where a joint is missing: then it is a humanoid like others.
    """
    spelling = 0 if "LeftUpLeg" in tree.names or "RightUpLeg" in tree.names else 1
    out = {"root": _known(tree, ("Hips",))}
    for bone, names in _CGSPEED.items():
        names = names if spelling == 0 else names[::-1]
        out[bone] = _known(tree, names)
        if bone[0] == "l" and bone not in ("lowerback", "lowerneck"):
            mirrored = [n.replace("Left", "Right") if "Left" in n else "r" + n[1:] for n in names]
            out["r" + bone[1:]] = _known(tree, tuple(n.replace("rFingers", "RFingers") for n in mirrored))
    return out if all(out.values()) and len(set(out.values())) == len(out) else {}


def _known(tree: Tree, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in tree.names), "")


def _is_rest_frame(tree: Tree, names: dict[str, str]) -> bool:
    """cgspeed's first frame is a T-pose: root, spine and clavicles exactly unturned, which no captured frame is."""
    still = ("root", "lowerback", "upperback", "thorax", "lclavicle", "rclavicle")
    nodes = [tree.names.index(names[bone]) for bone in still]
    return bool(np.abs(tree.world_rot[0, nodes] - np.eye(3)).max() < 1e-6)


def _cgspeed_tree(tree: Tree, names: dict[str, str], unit_m: float | None) -> Tree:
    """A cgspeed BVH under CMU's bone names, in metres, its T-pose frame dropped and its two missing bones put back."""
    back = {node: bone for bone, node in names.items()}
    metres = unit_m or metres_per_unit(tree, [tree.names.index(names[n]) for n in _SIZE])
    first = 1 if len(tree.root) > 1 and _is_rest_frame(tree, names) else 0
    tree = tree.part(slice(first, None)).scaled(metres)
    out = replace(tree, names=tuple(back.get(n, n) for n in tree.names), offsets=tree.offsets.copy())
    at = out.names.index
    upper = out.offset("thorax")
    thorax = upper + np.array([0.0, 0.0, _THORAX_TILT]) * np.linalg.norm(upper)
    thorax *= _THORAX_FROM_UPPERBACK * np.linalg.norm(upper) / max(float(np.linalg.norm(thorax)), 1e-9)
    for child in ("lowerneck", "lclavicle", "rclavicle"):
        if np.linalg.norm(out.offset(child)) < 1e-6:
            out.offsets[at(child)] = thorax
    for side in "lr":
        if np.linalg.norm(out.offset(side + "hand")) < 1e-6:
            out.offsets[at(side + "hand")] = _WRIST_FROM_RADIUS * out.offset(side + "wrist")
    return out


def _limbs(tree: Tree, recipe: Recipe) -> None:
    """Legs, forearms and hands of a CMU tree."""
    where = dict(zip(tree.names, np.moveaxis(tree.positions(), 1, 0), strict=True))
    for side, s in (("left", "l"), ("right", "r")):
        legs = (("hip", "femur"), ("knee", "tibia"), ("ankle", "foot"), ("foot", "toes"))
        arms = (("elbow", "radius"), ("wrist", "wrist"))
        for joint, bone in legs + arms:
            set_joint(recipe, f"{side}_{joint}", tree, s + bone, tree.offset(s + bone))
        _hip(tree, recipe, side, where)
        # The hand ends at the knuckles: the wrist bone and the hand bone as one, aimed where the hand bone ends.
        fingers = tree.offset(s + "fingers")
        set_joint(recipe, f"{side}_hand", tree, s + "hand", tree.offset(s + "hand") + fingers)
        recipe.aims[f"{side}_hand"] = where[s + "hand"] + tree.rot(s + "hand") @ fingers


def _hip(tree: Tree, recipe: Recipe, side: str, where: dict[str, Floats]) -> None:
    """The hip's bone; where the file's hip joints turn (some BVH: up to 11 deg), the mean one, and the leg is aimed."""
    s = side[0]
    bone = np.einsum("tji,tj->ti", tree.rot("root"), where[s + "femur"] - where["root"])
    recipe.bones[INDEX[f"{side}_hip"]] = bone.mean(0)
    if np.ptp(bone, axis=0).max() > 1e-6:
        for joint, node in (("knee", "tibia"), ("ankle", "foot"), ("foot", "toes")):
            recipe.aims[f"{side}_{joint}"] = where[s + node]


def cmu_recipe(tree: Tree) -> Recipe:
    """CMU's bones on our joints: legs and arms exact, spine, collars and head aimed at the captured points."""
    recipe = new_recipe(tree)
    lower, upper = tree.offset("upperback"), tree.offset("thorax")
    thorax, neck, skull = tree.offset("lclavicle"), tree.offset("upperneck"), tree.offset("head")
    where = dict(zip(tree.names, np.moveaxis(tree.positions(), 1, 0), strict=True))
    set_joint(recipe, "pelvis", tree, "root")
    set_joint(recipe, "spine1", tree, "lowerback", _LOW * lower)
    set_joint(recipe, "spine2", tree, "upperback", (1 - _LOW) * lower + _MID * upper)
    set_joint(recipe, "spine3", tree, "thorax", (1 - _MID) * upper + _UP * thorax)
    recipe.aims["spine2"] = where["upperback"] + tree.rot("upperback") @ (_MID * upper)
    recipe.aims["spine3"] = where["thorax"] + tree.rot("thorax") @ (_UP * thorax)
    set_joint(recipe, "neck", tree, "lowerneck", (1 - _UP) * thorax + _NECK * neck)
    set_joint(recipe, "head", tree, "head", (1 - _NECK) * neck + _HEAD * skull)
    recipe.aims["head"] = where["upperneck"] + tree.rot("upperneck") @ (_HEAD * skull)
    for side, s in (("left", "l"), ("right", "r")):
        clavicle = tree.offset(s + "humerus")
        set_joint(recipe, f"{side}_collar", tree, s + "clavicle", (1 - _UP) * thorax + _CLAVICLE * clavicle)
        set_joint(recipe, f"{side}_shoulder", tree, s + "humerus", (1 - _CLAVICLE) * clavicle)
        recipe.aims[f"{side}_shoulder"] = where[s + "humerus"]
    _limbs(tree, recipe)
    return recipe


def dance_recipe(tree: Tree, unit_m: float | None = None) -> Recipe:
    """The CMU dance skeleton (hip, abdomen, chest), every joint exact; spine1 halves the bone from hip to abdomen."""
    first = 1 if np.abs(tree.world_rot[0, 0] - np.eye(3)).max() < 1e-6 and len(tree.root) > 1 else 0  # a set-up pose
    metres = unit_m or metres_per_unit(tree, [tree.names.index(n) for n in ("hip", "lThigh", "lFoot", "head")])
    tree = tree.part(slice(first, None)).scaled(metres)
    recipe = new_recipe(tree)
    set_joint(recipe, "pelvis", tree, "hip")
    set_joint(recipe, "spine1", tree, "hip", 0.5 * tree.offset("abdomen"))
    set_joint(recipe, "spine2", tree, "abdomen", 0.5 * tree.offset("abdomen"))
    for joint, node in (("spine3", "chest"), ("neck", "neck"), ("head", "head")):
        set_joint(recipe, joint, tree, node, tree.offset(node))
    for side, s in (("left", "l"), ("right", "r")):
        hip = tree.offset(s + "Buttock") + tree.offset(s + "Thigh")
        set_joint(recipe, f"{side}_hip", tree, s + "Thigh", hip)
        chain = (("knee", "Shin"), ("ankle", "Foot"), ("collar", "Collar"), ("shoulder", "Shldr"))
        for joint, node in (*chain, ("elbow", "ForeArm"), ("wrist", "Hand")):
            set_joint(recipe, f"{side}_{joint}", tree, s + node, tree.offset(s + node))
        set_joint(recipe, f"{side}_foot", tree, s + "Foot", tree.ends[s + "Foot"])
        set_joint(recipe, f"{side}_hand", tree, s + "Hand", tree.offset(s + "Mid1"))
    return recipe


# Bone: the one that it hangs on, in CMU's skeleton and in the dance's ("*": on each side); between them may be others.
_ACCLAIM = {
    "lowerback": "root", "upperback": "lowerback", "thorax": "upperback", "lowerneck": "thorax",
    "upperneck": "lowerneck", "head": "upperneck",
    "*clavicle": "thorax", "*humerus": "*clavicle", "*radius": "*humerus", "*wrist": "*radius", "*hand": "*wrist",
    "*fingers": "*hand", "*femur": "root", "*tibia": "*femur", "*foot": "*tibia", "*toes": "*foot",
}  # fmt: skip
_DANCE = {
    "abdomen": "hip", "chest": "abdomen", "neck": "chest", "head": "neck", "*Collar": "chest", "*Shldr": "*Collar",
    "*ForeArm": "*Shldr", "*Hand": "*ForeArm", "*Mid1": "*Hand", "*Buttock": "hip", "*Thigh": "*Buttock",
    "*Shin": "*Thigh", "*Foot": "*Shin",
}  # fmt: skip


def _hangs(tree: Tree, skeleton: Mapping[str, str], names: Mapping[str, str] | None = None) -> bool:
    """Whether all bones of a skeleton are in the tree, by other ``names`` if given, each on the one that it should."""
    for bone, parent in skeleton.items():
        for side in "lr" if "*" in bone else " ":
            pair = [name.replace("*", side) for name in (bone, parent)]
            child, above = ((names or {}).get(name, name) for name in pair)
            if child not in tree.names or above not in [tree.names[i] for i in tree.path(tree.names.index(child))[:-1]]:
                return False
    return True


def recipe_of(tree: Tree, unit_m: float | None = None) -> Recipe:
    """The recipe for a tree, by its joint names; ``unit_m``: metres per unit of a BVH, else by the body's size.

    Raises:
        RigError: what was looked for and not found.
    """
    if _hangs(tree, _ACCLAIM):
        return cmu_recipe(tree)
    if _hangs(tree, _DANCE) and {"lFoot", "rFoot"} <= set(tree.ends):
        return dance_recipe(tree, unit_m)
    cgspeed = _cgspeed_names(tree) if {"LHipJoint", "RHipJoint"} <= set(tree.names) else {}
    if cgspeed and _hangs(tree, _ACCLAIM, cgspeed):
        return cmu_recipe(_cgspeed_tree(tree, cgspeed, unit_m))
    return humanoid_recipe(tree, unit_m)
