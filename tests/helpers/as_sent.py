"""What projects with other units or axes than ours would send of a body."""

from __future__ import annotations

import numpy as np


def as_sent(layout: str, xyz: np.ndarray) -> np.ndarray:
    """Our metres with Y up (..., 3) in the numbers of the project whose layout it is, by hand."""
    x, y, z = np.moveaxis(xyz, -1, 0)
    if layout == "freemocap_33":
        return 1000.0 * np.stack([x, -z, y], -1)
    if layout == "azure_kinect_32":
        return 1000.0 * np.stack([x, -y, -z], -1)
    if layout == "xsens_23":
        return np.stack([x, -z, y], -1)
    return xyz
