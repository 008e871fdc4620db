"""Run by the Python of Triton's environment: what its server answers to good and bad requests, as JSON for the test."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from model.motion.synthetic import SyntheticActor

MODEL = "hpstm-live"
KINDS = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64", np.dtype(object): "BYTES"}
BODY = SyntheticActor(3).positions(np.arange(20) / 30).astype(np.float32)


def parsed(path: str) -> dict[str, Any]:
    """config.pbtxt as the message that it is meant to be."""
    with open(path, encoding="utf-8") as file:
        config = text_format.Parse(file.read(), model_config_pb2.ModelConfig())
    found: dict[str, Any] = json_format.MessageToDict(config, preserving_proto_field_name=True)
    return found


class Caller:
    """Requests of sequences, one after the other."""

    def __init__(self, url: str) -> None:
        self.client = triton.InferenceServerClient(url)

    def __call__(
        self, sequence: int | str, n: int, positions: np.ndarray, start: bool = False, end: bool = False,
        outputs: tuple[str, ...] = ("positions",), **others: np.ndarray,
    ) -> Any:  # fmt: skip
        """The outputs as lists, or what the server says is wrong."""
        arrays = {"positions": positions, "t_ns": np.array([n * 33_000_000]), **others}
        inputs = []
        for name, array in arrays.items():
            inputs.append(triton.InferInput(name, [1, *array.shape], KINDS[array.dtype]))
            inputs[-1].set_data_from_numpy(array[None])
        wanted = [triton.InferRequestedOutput(name) for name in outputs]
        try:
            answer = self.client.infer(
                MODEL, inputs, outputs=wanted or None, sequence_id=sequence, sequence_start=start, sequence_end=end,
                client_timeout=20.0,
            )  # fmt: skip
        except triton.InferenceServerException as error:
            return error.message()
        names = outputs or [output.name for output in answer.get_response().outputs]
        found = {name: answer.as_numpy(name)[0] for name in names}
        return {name: [one.decode() for one in x] if x.dtype == object else x.tolist() for name, x in found.items()}


def answers(url: str) -> dict[str, Any]:
    """What the server says, by what it was asked."""
    call, found = Caller(url), {}
    first, again, anew = ([call("alice", n, BODY[n], n == 0, n == last) for n in range(10)] for last in (9, -1, -1))
    found["ended and begun again"] = first == again and all("positions" in pose for pose in first)
    found["begun again without an end"] = first == anew
    found["5 and '5'"] = [call(5, 0, BODY[0], start=True), call("5", 0, BODY[0] + np.float32(1.0), start=True)]
    found["never begun"] = call(77, 0, BODY[0])
    found["no sequence"] = call(0, 0, BODY[0])
    found["no joint"] = call(6, 0, np.full_like(BODY[0], np.nan), start=True)
    found["after no joint"] = call(6, 1, BODY[1])
    found["too few joints"] = call(6, 2, BODY[2][:17])
    found["earlier"] = call(6, 0, BODY[2])
    found["unknown layout"] = call(6, 3, BODY[3], layout=np.array([b"/etc/passwd"], object))
    found["no text"] = call(6, 3, BODY[3], layout=np.array([b"\xff"], object))
    found["after all that"] = call(6, 4, BODY[4], confidence=np.ones(24, np.float32))
    found["everything"] = call(6, 5, BODY[5], outputs=())
    named = np.array([b"smpl_22"], object)
    found["another layout"] = call(8, 0, BODY[0][:22], start=True, outputs=("source", "status"), layout=named)
    for open_still in ("alice", 5, "5", 6, 8):
        call(open_still, 30, BODY[19], end=True)  # or the server would wait for them when it is to end
    return found


if __name__ == "__main__":
    print(json.dumps(parsed(sys.argv[2]) if sys.argv[1] == "config" else answers(sys.argv[2])))
