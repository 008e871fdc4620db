"""Small takes in every kind of file that ``hpstm refine`` reads: a synthetic person, seen with noise."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np

from model.layouts import get_layout
from model.motion.synthetic import SyntheticActor
from model.prepare import Animation, Clip, animation_of, write_animation
from model.skeleton import INDEX
from streamer.archive.task import UNFINISHED, Row, Task, work
from streamer.clock import SECOND_NS
from streamer.frames import Frame
from streamer.sinks.recording import RecordingWriter
from streamer.wire.protocol import Encoder

FPS = 30.0
COCO = get_layout("coco_17").joints
HALPE = (  # what Pose2Sim calls the joints of HALPE_26
    "Hip", "RHip", "RKnee", "RAnkle", "RBigToe", "RSmallToe", "RHeel", "LHip", "LKnee", "LAnkle", "LBigToe",
    "LSmallToe", "LHeel", "Neck", "Head", "Nose", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist",
)  # fmt: skip


def truth(frames: int, seed: int = 1) -> np.ndarray:
    """(T, 24, 3) joints of a synthetic person at 30 Hz [m]."""
    return SyntheticActor(seed).positions(np.arange(frames) / FPS)


def seen(frames: int, seed: int = 1, noise_m: float = 0.01) -> np.ndarray:
    """The same with an error of ``noise_m`` on each coordinate."""
    at = truth(frames, seed)
    return at + noise_m * np.random.default_rng(seed).standard_normal(at.shape)


def place_of(name: str, at: np.ndarray) -> np.ndarray:
    """(T, 3) where a joint of Pose2Sim's or COCO's is on our skeleton; what we have not, at the joint it hangs on."""
    known = {"Hip": "pelvis", "Neck": "neck", "Head": "head", "Nose": "head", "nose": "head"}
    if name in known:
        return at[:, INDEX[known[name]]]
    side, rest = ("left", name[1:]) if name[0] == "L" else ("right", name[1:])
    if "_" in name:
        side, rest = name.split("_")
    joint = {"BigToe": "foot", "SmallToe": "foot", "Heel": "ankle", "eye": "head", "ear": "head"}.get(
        rest, rest.lower()
    )
    return at[:, INDEX[joint if joint == "head" else f"{side}_{joint}"]]


def write_trc(path: Path, at: np.ndarray, missing: tuple[int, str] = (5, "LWrist")) -> Path:
    """As OpenSim's pages describe a TRC: five lines of header, an empty one, tabs; here in mm; one cell is blank."""
    head = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{FPS:.2f}\t{FPS:.2f}\t{len(at)}\t{len(HALPE)}\tmm\t{FPS:.2f}\t1\t{len(at)}",
        "Frame#\tTime\t" + "\t".join(f"{name}\t\t" for name in HALPE).rstrip("\t"),
        "\t\t" + "\t".join(f"X{n}\tY{n}\tZ{n}" for n in range(1, len(HALPE) + 1)),
        "",
    ]
    rows = []
    for t in range(len(at)):
        cells = [f"{1e3 * v:.3f}" for name in HALPE for v in place_of(name, at)[t]]
        if t == missing[0]:
            cells[3 * HALPE.index(missing[1]) : 3 * HALPE.index(missing[1]) + 3] = ["", "", ""]
        rows.append("\t".join([str(t + 1), f"{t / FPS:.6f}", *cells]))
    path.write_text("\n".join([*head, *rows, ""]))
    return path


def write_csv(path: Path, at: np.ndarray) -> Path:
    """COCO's joints as anipose heads its tables, with a column of time; Z up, in cm."""
    z_up = 100.0 * at[..., [0, 2, 1]] * [1.0, -1.0, 1.0]
    head = [f"{name}_{axis}" for name in COCO for axis in ("x", "y", "z", "score")]
    lines = [",".join([*head, "fnum", "time_s"])]
    for t in range(len(at)):
        cells = [f"{v:.4f}" for name in COCO for v in (*place_of(name, z_up)[t], 0.9)]
        lines.append(",".join([*cells, str(t), f"{t / FPS:.6f}"]))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_turns(path: Path, frames: int, seed: int = 1) -> Path:
    """The person's turns with noise, as a BVH or an AMASS-like npz."""
    actor = SyntheticActor(seed)
    rotations, _ = actor.poses(np.arange(frames) / FPS)
    at = actor.positions(np.arange(frames) / FPS)
    animation = animation_of(Clip("x", at, rotations, FPS, actor.offsets_m))
    assert isinstance(animation, Animation)
    noise = 0.02 * np.random.default_rng(seed).standard_normal(animation.local.shape)
    local = animation.local + noise
    local /= np.linalg.norm(local, axis=-1, keepdims=True)
    write_animation(Animation("x", FPS, local, animation.root, animation.offsets_m), path)
    return path


def write_npz(path: Path, at: np.ndarray) -> Path:
    """Plain joint positions."""
    np.savez(path, positions=at, fps=np.float64(FPS))
    return path


def write_recording(path: Path, people: dict[str, np.ndarray]) -> Path:
    """Frames of several actors, by turns, one of them late."""
    encoder, frames = Encoder(), []
    for t in range(max(len(at) for at in people.values())):
        frames += [Frame(name, t, 10**15 + round(t * SECOND_NS / FPS), at[t].astype(np.float32))
                   for name, at in people.items() if t < len(at)]  # fmt: skip
    frames[10], frames[12] = frames[12], frames[10]
    with RecordingWriter(path) as writer:
        for n, frame in enumerate(frames):
            writer.write(encoder.frame(frame), n)
    return path


def harmed(task: Task) -> Row:
    """As ``work``, but by the file's name: "once", its first process dies while it writes; "always", each does;
    "fault", it raises what nobody expected."""
    name, mark = Path(task.label).stem, Path(task.out).with_suffix(".killed")
    if name == "fault":
        raise RuntimeError("nobody expected this")
    if name == "always" or (name == "once" and not mark.exists()):
        mark.touch()
        folder = Path(task.out) / UNFINISHED / "half"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / Path(task.target).name).write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return work(task)
