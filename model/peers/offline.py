"""The ancestor: HPSTM's windowed encoder-decoder, which sees a whole window of past and future at once.

The reference that the bench compares the live filter with. Everything it gives is per window; smooth_sequence averages
the overlapping windows of a sequence. Bone lengths are per frame, as in HPSTM, and so not constant.
Source: Qifei-C/HPSTM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model.kinematics import forward_kinematics, frame_from_axes
from model.skeleton import J, rest_directions, rest_lengths_m


@dataclass(frozen=True)
class OfflineConfig:
    """HPSTM's published size: 29.6 M parameters."""

    window: int = 31
    d_model: int = 512
    heads: int = 8
    encoder_layers: int = 4
    decoder_layers: int = 4
    feedforward: int = 2048
    dropout: float = 0.1


class OfflinePose(NamedTuple):
    """What the model says about every frame of a window."""

    positions: Tensor  # (B, W, J, 3) m, by forward kinematics
    rotations: Tensor  # (B, W, J, 3, 3) world_from_joint
    root: Tensor  # (B, W, 3) m
    lengths_m: Tensor  # (B, W, J), the root's 0
    cholesky: Tensor  # (B, W, J, 3, 3) lower triangle of the position covariance [m]


class OfflineModel(nn.Module):
    """Poses of a window from its noisy joints, each frame centred on its own root."""

    rest: Tensor
    rest_lengths: Tensor

    def __init__(self, config: OfflineConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or OfflineConfig()
        sizes: dict[str, Any] = {
            "nhead": c.heads, "dim_feedforward": c.feedforward, "dropout": c.dropout, "batch_first": True,
        }  # fmt: skip
        self.embed = nn.Linear(3 * J, c.d_model)
        self.place = nn.Parameter(0.02 * torch.randn(c.window, c.d_model))
        self.queries = nn.Parameter(0.02 * torch.randn(c.window, c.d_model))
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(c.d_model, **sizes), c.encoder_layers, enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(c.d_model, **sizes), c.decoder_layers)
        self.root_head = nn.Linear(c.d_model, 3)
        self.rotation_head = nn.Linear(c.d_model, 6 * J)
        self.length_head = nn.Linear(c.d_model, J)
        self.covariance_head = nn.Linear(c.d_model, 6 * J)
        self.register_buffer("rest", torch.tensor(rest_directions(), dtype=torch.float32), persistent=False)
        lengths = torch.tensor(rest_lengths_m(), dtype=torch.float32)
        self.register_buffer("rest_lengths", lengths, persistent=False)
        self._start_at_rest()

    def _start_at_rest(self) -> None:
        """Begin near the T-pose of the mean skeleton with 3 cm of uncertainty, so that early losses are sane."""
        with torch.no_grad():
            for head in (self.root_head, self.rotation_head, self.length_head, self.covariance_head):
                head.weight.mul_(0.1)
                head.bias.zero_()
            self.rotation_head.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1.0, 0]).repeat(J))
            self.length_head.bias[1:] = torch.log(torch.expm1(self.rest_lengths[1:]))  # softplus gives the rest length
            self.covariance_head.bias.view(J, 6)[:, :3] = float(np.log(np.expm1(0.03)))

    def forward(self, noisy: Tensor, fast: bool = False) -> OfflinePose:
        """Poses of every frame.

        Args:
            noisy: (B, W, J, 3) joints in the world [m], finite; W up to the config's window.
            fast: for training: the layers' products in bfloat16, the input and the heads in full.
        """
        batch, steps = noisy.shape[:2]
        if steps > self.config.window or noisy.shape[2:] != (J, 3):
            raise ValueError(f"noisy must be (B, up to {self.config.window}, {J}, 3), not {tuple(noisy.shape)}")
        root = noisy[:, :, 0]
        centred = noisy - root[:, :, None]
        embedded = self.embed(centred.reshape(batch, steps, 3 * J)) + self.place[:steps]
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            memory = self.encoder(embedded)
            h = self.decoder(self.queries[:steps].expand(batch, -1, -1), memory)  # (B, W, d_model)
        h = h.to(noisy.dtype)
        root = root + self.root_head(h)
        axes = self.rotation_head(h).view(batch, steps, J, 2, 3)
        rotations = frame_from_axes(axes[..., 0, :], axes[..., 1, :])
        lengths = nn.functional.softplus(self.length_head(h)) * (self.rest_lengths > 0)
        positions = forward_kinematics(rotations, self.rest * lengths[..., None], root)
        return OfflinePose(positions, rotations, root, lengths, self._cholesky(h))

    def _cholesky(self, h: Tensor) -> Tensor:
        values = self.covariance_head(h).view(*h.shape[:2], J, 6)
        out: Tensor = values.new_zeros(*values.shape[:3], 3, 3)
        diagonal, below = [0, 1, 2], ([1, 2, 2], [0, 0, 1])
        out[..., diagonal, diagonal] = nn.functional.softplus(values[..., :3]) + 1e-4
        out[..., below[0], below[1]] = values[..., 3:]
        return out


def hold_missing(noisy: Tensor) -> Tensor:
    """(T, J, 3) with each missing joint (NaN or infinite) held from its last sight, or its first before that.

    A joint never seen sits at the mean of the seen ones of its frame, and at the origin when there are none.
    """
    good = torch.isfinite(noisy).all(-1)  # (T, J)
    frame = torch.arange(len(noisy), device=noisy.device)[:, None]
    last = torch.where(good, frame, -1).cummax(0).values
    first = torch.where(good, frame, len(noisy)).amin(0).clamp(max=len(noisy) - 1)
    index = torch.where(last >= 0, last, first)
    held = torch.nan_to_num(noisy, 0.0, 0.0, 0.0).gather(0, index[..., None].expand_as(noisy))
    seen = good.any(0)  # (J,)
    middle = (held * seen[:, None]).sum(1, keepdim=True) / seen.sum().clamp(min=1)
    return torch.where(seen[:, None], held, middle)


@torch.inference_mode()
def smooth_sequence(model: OfflineModel, noisy: Any, window_size: int | None = None, batch: int = 64) -> Any:
    """A smoothed sequence: the mean, for every frame, over all windows that contain it.

    Args:
        model: in eval mode or not; it is put into eval mode for the call.
        noisy: (T, J * 3) joints in the world [m], numpy or torch; NaN = missing.
        window_size: frames a window, at most the model's; the default is the model's. A shorter sequence is one window.
        batch: windows at a time.
    Returns:
        (T, J * 3), the kind and dtype of ``noisy``, finite.
    Raises:
        ValueError: a shape or a window size that the model cannot take.
    Oracle: the loop in tests/test_offline.py.
    """
    given = torch.as_tensor(noisy)
    window = model.config.window if window_size is None else window_size
    if given.ndim != 2 or given.shape[1] != 3 * J or len(given) == 0:
        raise ValueError(f"noisy must be (T, {3 * J}) with at least one frame, not {tuple(given.shape)}")
    if not 1 <= window <= model.config.window:
        raise ValueError(f"window_size must be 1 to {model.config.window}, not {window}")
    joints = hold_missing(given.to(model.rest).view(-1, J, 3))
    steps, window = len(joints), min(window, len(joints))
    windows = joints.unfold(0, window, 1).permute(0, 3, 1, 2)  # (N, W, J, 3)
    total, count = torch.zeros_like(joints), torch.zeros(steps, device=joints.device)
    was_training = model.training
    model.eval()
    for begin in range(0, len(windows), batch):
        poses = model(windows[begin : begin + batch]).positions  # (n, W, J, 3)
        for w in range(window):
            total[begin + w : begin + w + len(poses)] += poses[:, w]
            count[begin + w : begin + w + len(poses)] += 1
    model.train(was_training)
    mean = (total / count[:, None, None]).view(steps, 3 * J).to(given)
    return mean if isinstance(noisy, Tensor) else mean.numpy()
