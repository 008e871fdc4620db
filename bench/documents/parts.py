"""The parts of ``hpstm bench all``: what each measures, by which command, and how long it takes.

In a command, DATA is the folder of motion (clips.csv, rendered/, aistpp/, mediapipe/), packed/ is what `hpstm prepare`
made of it; it runs at the top of the checkout. To add a part: a line here, and a place in blocks.py or figures.py with
a function that writes it, or a file of the checkout among the words.
"""

from __future__ import annotations

from dataclasses import dataclass

TUNED = 'input One-Euro Kalman Holt Savitzky-Golay "HPSTM Live"'
PEERS = 'SmoothNet "offline model" twin'
RENDERED = "DATA/rendered/*_00[23]_*.npz DATA/rendered/*_01[67]_*.npz"  # subjects never trained on
HELD_OUT = f"{RENDERED} DATA/aistpp/*.npz"


@dataclass(frozen=True)
class Part:
    """One command.

    Attributes:
        minutes: on two cores of an AMD EPYC with nothing beside it.
        words: of the command.
        size: how much is measured; ``trial``: instead, for a try.
        pictures: that it draws, kept in bench/results.
        json: whether it writes its result.
        asked: measured only when it is named.
    """

    name: str
    minutes: float
    words: str
    size: str = ""
    trial: str = ""
    pictures: tuple[str, ...] = ()
    json: bool = True
    asked: bool = False

    def command(self, trial: bool = False) -> str:
        """As one types it."""
        return " ".join(["hpstm", self.words, (self.trial if trial else self.size)]).strip()


PARTS = (  # in the order in which they are measured: what is soonest out of date first
    Part("latency", 0.8, "bench latency", "--steps 5000", "--steps 40 --offline-steps 1",
         ("latency.png", "latency_stages.png")),
    Part(
        "wire", 4.5, "bench wire", "--rates 30 60 120 --seconds 10 --warmup 4.5",
        "--rates 60 --transports tcp --seconds 1 --warmup 1", ("wire_latency.png",),
    ),
    Part("live", 0.5, "bench wire --live --rates 30", "--seconds 15", "--seconds .5 --warmup .2"),
    Part("crowds-one", 1.5, "bench throughput --no-server", "--seconds 2", "--rates 120 --seconds .05 --limit 2"),
    Part(
        "crowds", 4, "bench throughput --threads 2", "--seconds 2",
        "--rates 120 --seconds .2 --warmup .1 --limit 1", ("throughput.png",),
    ),
    Part(
        "accuracy", 2.5, "evaluate packed/test.npz --jobs 2 --delay 0 0.1 --predict 0.1 "
        f"--markdown bench/results/accuracy_test.md --methods {TUNED}",
        "--clips 0", "--clips 2 --seconds 6 --noise realistic lifted white10 clean",
        ("accuracy_against_jitter.png", "calibration.png"),
    ),
    Part(
        "peers", 2.5, "evaluate packed/test.npz --jobs 2 --noise realistic lifted white10 --delay 0 0.1 "
        f"--markdown bench/results/accuracy_peers.md --methods {PEERS}",
        "--clips 0", "--clips 1 --seconds 2",
    ),
    Part(
        "unseen", 1, "evaluate packed/unseen.npz --jobs 2 --noise realistic lifted white10 --delay 0 0.1 "
        f"--predict 0.1 --markdown bench/results/accuracy_unseen.md --methods {TUNED}",
        "--clips 0", "--clips 1",
    ),
    Part(
        "delays", 0.5, "evaluate packed/test.npz --jobs 2 --noise realistic --delay-frames=-3..8 "
        '--methods input One-Euro Kalman "HPSTM Live"', "--clips 0", "--clips 1 --seconds 8",
        ("accuracy_against_delay.png",),
    ),
    Part(
        "lost", 0.4, "evaluate packed/test.npz --jobs 2 --noise lost_joint lost_arm lost_leg lost_body --delay 0 "
        '--methods input Kalman "HPSTM Live"', "--clips 0", "--clips 1", ("error_through_a_gap.png",),
    ),
    Part(
        "rates", 0.3, "evaluate packed/test.npz --jobs 2 --noise realistic --delay 0 0.1 --rate 60 120 "
        '--methods input One-Euro Kalman "HPSTM Live"', "--clips 16", "--clips 1 --seconds 4",
    ),
    Part(
        "recordings", 0.1, "evaluate packed/test.npz --clips 1 --noise clean --delay 0 --recordings DATA/mediapipe "
        '--methods input One-Euro "One-Euro MediaPipe" Kalman SmoothNet "HPSTM Live"',
    ),
    Part(
        "pairs", 1.5, "evaluate", f'--pairs {HELD_OUT} --methods {TUNED} SmoothNet "offline model"',
        '--pairs DATA/rendered/*_002_*.npz DATA/aistpp/gJS_sFM*.npz --methods input Holt "HPSTM Live"',
    ),
    Part(
        "told", 0.7, "evaluate", f"--pairs {RENDERED} --known height pitch both --delay 0 --methods {TUNED}",
        '--pairs DATA/rendered/*_002_*.npz --known height both --delay 0 --methods input Holt "HPSTM Live"',
    ),
    Part(
        "targets", 3, "bench targets DATA --markdown bench/results/targets.md", "--bodies 4",
        "--bodies 1 --only outliers --seconds 9",
    ),
    Part(
        "streams", 2.5, "bench streams --markdown bench/results/streams.md", "",
        "--small --case clean lone-ahead layout-nan",
    ),
    Part("feet", 0.4, "bench feet packed/test.npz", "--clips 24", "--clips 1 --seconds 6 --noise clean"),
    Part("velocity", 0.4, "bench velocity packed/test.npz", "--clips 6 --seconds 6", "--clips 1 --seconds 4 --rate 30"),
    Part("soak", 2.5, "bench soak", "--hours 2", "--hours .01", ("soak.png",)),
    Part(
        "ablation", 3, "bench ablation --data packed/train.npz --teacher bench/weights/twin.safetensors",
        "--steps 50 --batch 8", '--steps 1 --batch 2 --only "as shipped" "window 16"',
    ),
    Part("demo", 0.5, "demo --animate docs/demo.svg", "", "--seconds 2", json=False),
    Part(
        "alternatives", 6, "bench alternatives --markdown bench/results/cpu_alternatives.md", "",
        "--only native --steps 20", asked=True,
    ),
)  # fmt: skip
NAMES = tuple(part.name for part in PARTS)
