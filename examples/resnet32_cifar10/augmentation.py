"""Training pictures, cropped, flipped and cut out on the device: it holds them as uint8 and makes a batch at a time."""

import hashlib
from dataclasses import dataclass

import torch
from pcmedge.data import CIFAR10_MEAN, CIFAR10_STD, LabelledPictures
from torch.nn import functional

PAD = 4  # random crops of the padded picture, as in He et al. 2016
CUTOUT = 8  # side of the hole; DeVries & Taylor 2017 use 16 for schedules several times as long


@dataclass(frozen=True)
class Part:
    pictures: torch.Tensor  # uint8 [N, 3, 32, 32]
    labels: torch.Tensor  # int64 [N]

    @classmethod
    def of(cls, found: LabelledPictures, device: torch.device) -> "Part":
        planes = torch.from_numpy(found.pictures).permute(0, 3, 1, 2).contiguous()
        return cls(planes.to(device), torch.from_numpy(found.labels).to(device))

    def steps(self, batch: int) -> int:
        """Whole batches in a pass over the pictures, at least one."""
        return max(1, len(self.labels) // batch)


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor(CIFAR10_MEAN, device=pictures.device)[:, None, None]
    std = torch.tensor(CIFAR10_STD, device=pictures.device)[:, None, None]
    return ((pictures / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def augmented(pictures: torch.Tensor, choices: torch.Tensor) -> torch.Tensor:
    """Crop, flip and cut out. ``choices`` [5, B]: down, right, flip; top and left of the hole."""
    down, right, flip, top, left = choices
    place = torch.arange(32, device=pictures.device)
    rows = place + down[:, None]
    columns = torch.where(flip[:, None] > 0, place.flip(0), place) + right[:, None]
    padded = functional.pad(normalised(pictures), (PAD, PAD, PAD, PAD))  # 0 is the mean colour
    sample = torch.arange(len(pictures), device=pictures.device)[:, None, None, None]
    channel = torch.arange(3, device=pictures.device)[:, None, None]
    x = padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
    in_rows = (place >= top[:, None]) & (place < top[:, None] + CUTOUT)
    in_columns = (place >= left[:, None]) & (place < left[:, None] + CUTOUT)
    x = x.masked_fill(in_rows[:, None, :, None] & in_columns[:, None, None, :], 0.0)
    return x.contiguous(memory_format=torch.channels_last)


def epoch_plan(samples: int, key: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The order [N] and the choices [5, N] of one epoch. They follow from ``key``: a resumed run repeats them."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "little")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(samples, generator=generator)
    bounds = ((0, 2 * PAD + 1), (0, 2 * PAD + 1), (0, 2), *(((-CUTOUT // 2, 32 - CUTOUT // 2),) * 2))
    choices = torch.stack([torch.randint(low, high, (samples,), generator=generator) for low, high in bounds])
    return order.to(device), choices.to(device)
