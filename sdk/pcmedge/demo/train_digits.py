"""The digits network of the demo, and how it was trained: ``python -m pcmedge.demo.train_digits`` writes it again.

A residual network of 15,000 weights for 8 x 8 pictures: a stem, two residual blocks of 20 channels with batch norm
after each convolution, a mean over the picture, one classifier. Small on purpose: it has no headroom to hide drift in.
Trained for 80 epochs on 1,097 digits with the weight noise of :func:`pcmedge.training.noise_aware`; network, noise and
epochs were chosen on the 300 validation digits, the 400 test digits were kept for the numbers that the demo shows.
Needs the ``train`` extra. About 30 s on two cores; the same seed and torch version give the same network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pcmedge.demo.digits import MODEL_FILE, Digits, load_digits
from pcmedge.training import noise_aware

SEED = 0
CHANNELS = 20
BLOCKS = 2
EPOCHS = 80
CLEAN_EPOCHS = 24
"""Epochs before the noise sets in: Joshi et al. 2020 start from a trained network, this is the short form of it."""
BATCH = 64
PEAK_LEARNING_RATE = 3e-3
ETA = 0.10
"""More than twice the 3.8 % of Joshi et al. 2020: a network without headroom needs more."""
CLIP_SIGMA = 2.0


class Block(nn.Module):
    """Two 3 x 3 convolutions, each with batch norm, around an identity shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(x + self.norm2(self.conv2(inner)))


class DigitsNetwork(nn.Module):
    """Pictures (N, 1, 8, 8), 0 is paper and 1 is ink -> scores (N, 10)."""

    def __init__(self, channels: int = CHANNELS, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(functional.relu(self.norm(self.stem(x))))
        scores: torch.Tensor = self.classifier(x.mean(dim=(2, 3)))
        return scores


def shift(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every second batch moves by up to one pixel each way."""
    if float(torch.rand((), generator=generator)) < 0.5:
        return pictures
    down, right = torch.randint(0, 3, (2,), generator=generator).tolist()
    return functional.pad(pictures, (1, 1, 1, 1))[:, :, down : down + 8, right : right + 8]


def train(
    digits: Digits, *, seed: int = SEED, epochs: int = EPOCHS, progress: Callable[[str, int, int], None] | None = None
) -> DigitsNetwork:
    """Train on the training part; noise-aware after the first ``CLEAN_EPOCHS``. Returns the network in eval mode.

    On one thread: a network this small is many times slower on several, and sums in another order.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(digits, seed, epochs, progress)
    finally:
        torch.set_num_threads(threads)


def _train(digits: Digits, seed: int, epochs: int, progress: Callable[[str, int, int], None] | None) -> DigitsNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DigitsNetwork()
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.from_numpy(digits.train.tensors)
    labels = torch.from_numpy(digits.train.labels.astype(np.int64))
    batches = len(labels) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, total_steps=epochs * batches, pct_start=0.2
    )
    handle = None
    model.train()
    for epoch in range(epochs):
        if epoch == min(CLEAN_EPOCHS, epochs - 1):
            handle = noise_aware(model, eta=ETA, clip_sigma=CLIP_SIGMA, seed=seed)
        order = torch.randperm(len(labels), generator=generator)
        for batch in order[: batches * BATCH].reshape(batches, BATCH):
            scores = model(shift(pictures[batch], generator))
            optimizer.zero_grad()
            functional.cross_entropy(scores, labels[batch], label_smoothing=0.05).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if handle is not None:
                handle.clip()
        if progress is not None:
            progress("train", epoch + 1, epochs)
    if handle is not None:
        handle.remove()
    # Batch norm has followed noisy weights and shifted pictures. The chip compares itself with the clean network
    # (paired statistics), so its running statistics must be those of the clean weights.
    torch.optim.swa_utils.update_bn(pictures.split(BATCH), model)  # type: ignore[no-untyped-call]
    return model.eval()


def accuracy(model: nn.Module, tensors: np.ndarray, labels: np.ndarray) -> float:
    """Share of pictures that the exact network gets right (unit 1)."""
    with torch.no_grad():
        found = model(torch.from_numpy(tensors)).argmax(dim=1).numpy()
    return float(np.mean(found == labels))


def export(model: nn.Module, path: Path) -> None:
    """Write the network as ONNX with batch norm kept and a free batch axis: what the compiler makes of a module."""
    import onnx

    from pcmedge.frontends import torch as frontend

    proto = frontend.load(model, torch.zeros(1, 1, 8, 8))
    # The exporter notes the source line of every node; that doubles the file and says nothing about the network.
    for item in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    onnx.save(proto, path)


def main() -> None:
    """Train the bundled network again and write it over the package data."""
    digits = load_digits()
    model = train(digits)
    for part, name in ((digits.validation, "validation"), (digits.test, "test")):
        print(f"{name}: {accuracy(model, part.tensors, part.labels):.4f} of {len(part.labels)}")
    export(model, MODEL_FILE)


if __name__ == "__main__":
    main()
