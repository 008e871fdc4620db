"""Files of animation out: BVH, glTF, VRM animation, AMASS-like npz and JSON lines, each of an Animation."""
