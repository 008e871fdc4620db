"""The command ``hpstm``: arguments in, one function call out; each command imports what it needs when it is called."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from streamer.errors import ConfigError, HPSTMError

# Commands that are a module of their own, with its own arguments: (module, extra to install if an import is missing).
MODULES = {
    "prepare": ("model.prepare", "train", "pack motion files for training"),
    "train": ("model.training.train", "train", "train the causal model"),
    "train-windowed": ("model.peers.train_windowed", "train", "train a windowed peer that the bench compares with"),
    "evaluate": ("bench.accuracy.accuracy", "train", "score the filter on motion with known truth, beside baselines"),
    "export": (
        "model.export",
        "train",
        "write the ONNX model and its contract; --runtime tensorrt: also engines of it",
    ),
}
BENCHES = {"latency": "latency", "alternatives": "latency", "gpu": "latency", "wire": "service",
           "throughput": "service", "soak": "service", "accuracy": "accuracy", "ablation": "accuracy",
           "tune": "accuracy", "targets": "accuracy"}  # fmt: skip
EXTRA_OF = {"torch": "train", "roma": "train", "safetensors": "train", "onnx": "train", "onnxscript": "train",
            "scipy": "train", "matplotlib": "bench", "psutil": "bench"}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Expected errors are one line on stderr and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == ["export"] and any(word.startswith("--runtime") for word in words):
            return _export_for(words[1:])
        if words and words[0] in MODULES:
            return _run_module(MODULES[words[0]][0], words[1:])
        if words[:1] == ["bench"] and len(words) > 1 and words[1] in BENCHES:
            return _run_module(f"bench.{BENCHES[words[1]]}.{words[1]}", words[2:])
        arguments = _parser().parse_args(words)
        run: Callable[[argparse.Namespace], int] = arguments.run
        return run(arguments)
    except HPSTMError as error:
        print(f"hpstm: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        extra = EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"hpstm: this needs {error.name}; install it with: pip install 'hpstm-live[{extra}]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `hpstm listen | head`
        sys.stderr.close()
        return 0


def _run_module(module: str, words: list[str]) -> int:
    try:
        return int(import_module(module).main(words))
    except SystemExit as end:  # argparse's help and errors
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _export_for(words: list[str]) -> int:
    """``hpstm export [WEIGHTS] --runtime tensorrt``: the ONNX files, if weights are given, then engines of them."""
    from model.contract import WEIGHTS
    from streamer.runtimes import engines, load_runtime
    from streamer.runtimes.rows import PRECISIONS

    parser = argparse.ArgumentParser(prog="hpstm export", description="Build the engines of a model ahead of time.")
    parser.add_argument("--runtime", required=True, choices=("tensorrt",))
    parser.add_argument("weights", nargs="?", help="weights to export first (default: build of what --out holds)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="DIR", help="model folder (default: the bundled)")
    parser.add_argument("--name", default="hpstm-live", help="what the contract calls the model")
    parser.add_argument("--int8", action="store_true", help="round the weights that are exported to 8 bits")
    parser.add_argument("--lanes", type=int, default=64, help="most actors at a time: --max-actors of serve")
    parser.add_argument("--precision", default="fp16", choices=PRECISIONS, help="of the trunk's products")
    parser.add_argument("--library", choices=engines.LIBRARIES, help="default: the first that is installed")
    options = parser.parse_args(words)
    trt, gpu = engines.library_and_gpu(options.library)  # before minutes of export
    if options.weights:
        words = [options.weights, "--out", str(options.out), "--name", options.name, *["--int8"] * options.int8]
        code = _run_module("model.export", words)
        if code:
            return code
    contract = load_runtime("onnx", options.out).contract
    wanted = engines.EngineSet(options.out, contract, options.lanes, options.precision, trt, gpu)
    print(f"{wanted.of()}, for {gpu.name if gpu else 'any GPU of ' + ', '.join(wanted.targets()) + ' (none is here)'}")
    for line in engines.build_ahead(wanted):
        print(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hpstm", description="Live refinement of 3D pose streams.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_replay(commands)
    _add_record(commands)
    _add_listen(commands)
    _add_keys(commands)
    _add_demo(commands)
    doctor = commands.add_parser("doctor", help="say what works on this machine and what to install")
    doctor.set_defaults(run=_doctor)
    for name, (_, _, text) in MODULES.items():
        commands.add_parser(name, help=text)
    bench = commands.add_parser("bench", help=f"measure: {', '.join(BENCHES)}")
    bench.add_argument("what", choices=BENCHES)
    return parser


def _endpoint_arguments(parser: argparse.ArgumentParser, *names: str) -> None:
    from streamer.wire import endpoints

    texts = {"in": "where frames come in", "out": "where poses go out", "control": "where requests are answered"}
    for name in names:
        default = getattr(endpoints, f"DEFAULT_{name.upper()}")
        parser.add_argument(f"--{name}", dest=f"{name}_endpoint", metavar="EP", default=default,
                            help=f"{texts[name]} (default {default})")  # fmt: skip


def _key_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", metavar="FILE", help="your NAME.key_secret, for a server that runs with --curve")
    parser.add_argument("--server-key", metavar="FILE", help="that server's server.key")


def _client_keys(arguments: argparse.Namespace) -> Any:
    """ClientKeys that the server lets in, or None when none are given."""
    from streamer.wire.security import ClientKeys, check_admitted

    if arguments.key is None and arguments.server_key is None:
        return None
    if arguments.key is None or arguments.server_key is None:
        raise ConfigError("give --key and --server-key together: your own secret key, and the server's public one")
    keys = ClientKeys.load(arguments.key, arguments.server_key)
    check_admitted(arguments.out_endpoint, keys)
    return keys


def _add_keys(commands: Any) -> None:
    parser = commands.add_parser("keys", help="make a key pair for serve --curve, or for a client of it")
    parser.add_argument("name", help="server, or the client's name")
    parser.add_argument("--dir", default=".", metavar="DIR", help="where to (default: here)")
    parser.set_defaults(run=_keys)


def _keys(arguments: argparse.Namespace) -> int:
    from streamer.wire.security import make_keys

    public, secret = make_keys(arguments.name, arguments.dir)
    print(f"{secret}: keep it on this machine\n{public}: give it to the other end")
    return 0


def _add_serve(commands: Any) -> None:
    parser = commands.add_parser("serve", help="run the server")
    _endpoint_arguments(parser, "in", "out", "control")
    parser.add_argument("--connect-in", action="append", default=[], metavar="EP", help="also connect to a source here")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--delay", type=float, default=0.0, metavar="S", help="fixed lag for a smoother pose (0..0.2)")
    when.add_argument("--predict", type=float, default=0.0, metavar="S", help="predict ahead (0..0.15)")
    parser.add_argument("--rate", type=float, default=0.0, metavar="HZ", help="steady output clock, coasting over gaps")
    parser.add_argument(
        "--runtime", default="auto", help="auto (default: native, else onnx), tensorrt, torch, torch_cuda"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layout", action="append", default=[], metavar="TOML", help="an input layout of your own")
    parser.add_argument("--weights", metavar="FILE", help="another model than the bundled one")
    parser.add_argument("--max-actors", type=int, default=64)
    parser.add_argument("--evict", type=float, default=30.0, metavar="S", help="forget actors silent this long")
    parser.add_argument("--budget-ms", type=float, default=20.0, help="skip frames that would take longer than this")
    parser.add_argument("--no-rehearsal", dest="rehearse", action="store_false",
                        help="let the filter grow cold between frames: less work, later answers")  # fmt: skip
    parser.add_argument("--metrics-port", type=int, default=0, metavar="PORT", help="Prometheus text on 127.0.0.1:PORT")
    parser.add_argument("--allow-remote", action="store_true",
                        help="open endpoints to other machines: no encryption, no password")  # fmt: skip
    parser.add_argument("--curve", metavar="DIR", help="encrypt, and let in only who is listed: DIR holds "
                        "server.key_secret and clients/NAME.key (made by hpstm keys)")  # fmt: skip
    parser.add_argument("--json-ready", action="store_true", help="say that it is ready in one line of JSON")
    parser.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    stop: list[int] = []  # before the long imports: a signal while loading ends the server once it is up
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    from streamer.commands.terminal import StatusLine, ready_line
    from streamer.server.config import ServerConfig
    from streamer.server.server import Server

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    config = ServerConfig(
        in_endpoint=arguments.in_endpoint, out_endpoint=arguments.out_endpoint,
        control_endpoint=arguments.control_endpoint, connect_in=tuple(arguments.connect_in),
        layouts=tuple(arguments.layout),
        weights=arguments.weights, runtime=arguments.runtime, threads=arguments.threads, delay_s=arguments.delay,
        predict_s=arguments.predict, rate_hz=arguments.rate, max_actors=arguments.max_actors, evict_s=arguments.evict,
        budget_s=arguments.budget_ms / 1e3, metrics_port=arguments.metrics_port, allow_remote=arguments.allow_remote,
        curve=arguments.curve, rehearse=arguments.rehearse,
    )  # fmt: skip
    server = Server(config)
    status = StatusLine(server.metrics) if sys.stdout.isatty() else None
    server.run(
        on_ready=lambda endpoints: print(ready_line(endpoints, arguments.json_ready), flush=True),
        every_second=status.show if status is not None else None,
        stopped=lambda: bool(stop),
    )
    return 0


def _add_replay(commands: Any) -> None:
    parser = commands.add_parser("replay", help="play a file through a running server and score what comes out")
    parser.add_argument("file", help=".npz (MediaPipe or AMASS), .bvh, .amc (also .gz), a recording, or: synthetic")
    _endpoint_arguments(parser, "in", "out", "control")
    _key_arguments(parser)
    parser.add_argument("--start-server", action="store_true", help="start one even if one answers (on free ports)")
    parser.add_argument("--fast", action="store_true", help="as fast as the server answers, not in real time")
    parser.add_argument("--actor", metavar="NAME", help="name to give the actor")
    parser.add_argument("--seconds", type=float, metavar="S", help="only the first S seconds")
    parser.add_argument("--noise-mm", type=float, metavar="MM",
                        help="add noise of this standard deviation per coordinate (synthetic: 10)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary there too")
    parser.set_defaults(run=_replay)


def _replay(arguments: argparse.Namespace) -> int:
    from streamer.commands import replay
    from streamer.sources.replay import read_take
    from streamer.sources.synthetic import synthetic_take

    if arguments.file == "synthetic":
        noise_mm = 10.0 if arguments.noise_mm is None else arguments.noise_mm
        take = synthetic_take(arguments.seconds or 10.0).noisy(noise_mm / 1e3)
    else:
        take = read_take(arguments.file, arguments.actor).noisy((arguments.noise_mm or 0.0) / 1e3)
    if arguments.seconds is not None:
        take = take.first(arguments.seconds)
    with replay.server_for(arguments, _client_keys(arguments)) as endpoints:
        report = replay.run(take, endpoints, fast=arguments.fast)
    print(replay.table(report))
    if arguments.json:
        arguments.json.write_text(replay.to_json(report))
    return 0 if report["poses_out"] else 1


def _add_record(commands: Any) -> None:
    parser = commands.add_parser("record", help="write what a server publishes to a file")
    parser.add_argument("file", type=Path)
    _endpoint_arguments(parser, "out")
    _key_arguments(parser)
    parser.add_argument("--poses-only", action="store_true", help="leave the input out: then no replay")
    parser.add_argument("--seconds", type=float, metavar="S", help="stop after S seconds (default: on Ctrl-C)")
    parser.set_defaults(run=_record)


def _record(arguments: argparse.Namespace) -> int:
    from streamer.sinks.recording import record

    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    counts = record(arguments.out_endpoint, arguments.file, frames=not arguments.poses_only,
                    seconds=arguments.seconds, stopped=lambda: bool(stop), curve=_client_keys(arguments))  # fmt: skip
    print(f"{arguments.file}: " + ", ".join(f"{n} {kind}s" for kind, n in counts.items()))
    return 0


def _add_listen(commands: Any) -> None:
    parser = commands.add_parser("listen", help="print poses as they come")
    _endpoint_arguments(parser, "out")
    _key_arguments(parser)
    parser.add_argument("--actor", metavar="NAME")
    parser.add_argument("--every", action="store_true", help="every pose, not only the newest")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="stop after N poses")
    parser.set_defaults(run=_listen)


def _listen(arguments: argparse.Namespace) -> int:
    from streamer.commands.terminal import pose_line
    from streamer.sinks.subscriber import PoseSubscriber

    keys = _client_keys(arguments)
    with PoseSubscriber(arguments.out_endpoint, arguments.actor, every=arguments.every, curve=keys) as subscriber:
        for n, pose in enumerate(subscriber, 1):
            print(pose_line(pose), flush=True)
            if n == arguments.count:
                break
    return 0


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser("demo", help="the whole product in 15 seconds, on a synthetic actor")
    parser.add_argument("--seconds", type=float, default=15.0, metavar="S")
    parser.add_argument("--rate", type=float, default=60.0, metavar="HZ", help="frames per second of the actor")
    parser.add_argument("--delay", type=float, default=0.0, metavar="S")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out-dir", default="demo_out", metavar="DIR")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from bench.demo.demo import run

    if arguments.seconds < 2:
        raise ConfigError("--seconds must be at least 2")
    return run(arguments.seconds, arguments.out_dir, rate_hz=arguments.rate, delay_s=arguments.delay,
               seed=arguments.seed)  # fmt: skip


def _doctor(arguments: argparse.Namespace) -> int:
    from streamer.commands.doctor import run

    return run()
