"""``hpstm export``: the ONNX files of trained weights, by ``model.export``; engines of them, or a model for Triton."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from model.contract import WEIGHTS, ContractError
from streamer.commands.options import BUNDLED
from streamer.errors import ConfigError

EXPORTER = "model.export"  # by name: it needs torch, which the streamer never imports


def export(
    weights: Path | None = None,
    /,
    *,
    out: Annotated[Path, Parameter(show_default=BUNDLED)] = WEIGHTS,
    name: str = "hpstm-live",
    int8: bool = False,
    runtime: Literal["tensorrt"] | None = None,
    lanes: int = 64,
    precision: Literal["fp16", "fp32"] = "fp16",
    library: Annotated[
        Literal["tensorrt_rtx", "tensorrt"] | None, Parameter(show_default="the first that is installed")
    ] = None,
    triton: Path | None = None,
) -> int:
    """Write the ONNX model of trained weights, its contract inside; engines of it, or a model for Triton as well.

    Args:
        weights: averaged.safetensors of a training run; --runtime and --triton do with what --out holds.
        out: Model folder, written where there are weights.
        name: What the contract calls the model.
        int8: Round the linear layers to 8 bits: much faster in runtime native.
        runtime: Build the engines of this runtime ahead of time.
        lanes: Most actors at a time, of the engines (--max-actors of serve) and of the model for Triton.
        precision: Of the trunk's products, in the engines.
        library: What builds the engines.
        triton: Write a model called --name into this model repository of Triton Inference Server.
    """
    if weights is None and runtime is None and triton is None:
        raise ConfigError(
            "export needs the weights of a training run, averaged.safetensors, or --runtime tensorrt, or --triton DIR"
        )
    if runtime is not None and triton is not None:
        raise ConfigError("--runtime and --triton are two exports; the model for Triton has a parameter runtime")
    if runtime is None:
        _write_model(weights, out, name, int8)
        if triton is not None:
            from streamer.triton.repository import write_repository

            print(f"{write_repository(triton, out, name, lanes)}: start tritonserver --model-repository={triton}")
        return 0
    from streamer.runtimes import engines, load_runtime

    trt, gpu = engines.library_and_gpu(library)  # before minutes of export
    _write_model(weights, out, name, int8)
    contract = load_runtime("onnx", out).contract
    wanted = engines.EngineSet(out, contract, lanes, precision, trt, gpu)
    print(f"{wanted.of()}, for {gpu.name if gpu else 'any GPU of ' + ', '.join(wanted.targets()) + ' (none is here)'}")
    for line in engines.build_ahead(wanted):
        print(line)
    return 0


def _write_model(weights: Path | None, out: Path, name: str, int8: bool) -> None:
    if weights is None:
        return
    if not weights.is_file():
        raise ConfigError(f"{weights}: no such file; hpstm train writes averaged.safetensors into its --out folder")
    try:
        contract = import_module(EXPORTER).export_weights(weights, out, name, int8)
    except ContractError as error:
        raise ConfigError(str(error)) from error
    print(f"{out}: the model {contract.name}, weights {contract.weights_sha256[:12]}")
