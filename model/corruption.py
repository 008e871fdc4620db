"""``python -m model.corruption`` of 0.1: the noise is model/noise now, its report ``python -m model.noise.report``."""

from model.noise.config import NoiseConfig
from model.noise.corruption import Corrupted, corrupt
from model.noise.fixed import NOISES, make_noise
from model.noise.report import main

__all__ = ["NOISES", "Corrupted", "NoiseConfig", "corrupt", "main", "make_noise"]

if __name__ == "__main__":
    main()
