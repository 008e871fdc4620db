"""Motion files in: ASF/AMC, BVH, AMASS and plain npz, each onto the canonical skeleton."""
