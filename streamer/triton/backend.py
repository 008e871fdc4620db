"""Triton's Python backend around a PoseFilter: ``hpstm export --triton`` copies this file as ``1/model.py``.

It translates between Triton's tensors and sequences.py, which is that of the hpstm-live installed for the server.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

# Triton's Python does not read PYTHONPATH by itself, which is where packages are that are not the system's.
sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))

try:
    import numpy as np
    import triton_python_backend_utils as pb_utils

    from streamer.clock import now_ns
    from streamer.errors import FrameError
    from streamer.frames import Pose
    from streamer.triton.repository import output_of
    from streamer.triton.sequences import Request, load
except ImportError as error:
    raise ImportError(
        f"{error}; Triton's Python is {sys.version.split()[0]}: install hpstm-live and numpy<2 for it, or, where they "
        "are in a virtual environment of that version, start tritonserver with PYTHONPATH=ITS/site-packages"
    ) from error


class TritonPythonModel:
    """What Triton looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the filter, as config.pbtxt asks for it."""
        version = Path(args["model_repository"]) / args["model_version"]
        self.sequences = load(version, json.loads(args["model_config"]))
        pb_utils.Logger.log_info(f"{args['model_name']}: runtime {self.sequences.runtime}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response to each request: a pose, or an error that says what is wrong with the frame."""
        answers = self.sequences.answer([_read(request) for request in requests], now_ns())
        return [_response(request, answer) for request, answer in zip(requests, answers)]


def _read(request: Any) -> Request:
    """What Triton hands over, without the batch axis, whose length is 1."""
    arrays = {tensor.name(): tensor.as_numpy()[0].copy() for tensor in request.inputs()}  # frames outlive requests
    layout = arrays.pop("layout", None)
    flags = request.flags()
    return Request(
        request.correlation_id(), bool(flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START),
        bool(flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END), int(arrays.pop("t_ns")[0]),
        layout=None if layout is None else layout[0].decode(errors="replace"), **arrays,
    )  # fmt: skip


def _response(request: Any, answer: Pose | FrameError) -> Any:
    if isinstance(answer, FrameError):
        error = pb_utils.TritonError(f"{answer.reason}: {answer}", pb_utils.TritonError.INVALID_ARG)
        return pb_utils.InferenceResponse(error=error)
    return pb_utils.InferenceResponse([_tensor(answer, name) for name in request.requested_output_names()])


def _tensor(pose: Pose, name: str) -> Any:
    value = output_of(pose, name)
    if isinstance(value, str):
        value = np.array([value.encode()], object)
    elif isinstance(value, int):
        value = np.array([value], np.int64)
    return pb_utils.Tensor(name, value[None])
