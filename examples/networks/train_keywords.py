"""Train the DS-CNN on Google's Speech Commands (Warden 2018, arXiv:1804.03209), unpacked in a folder.

python examples/networks/train_keywords.py --data speech_commands_v0.02 --output models

Ten words, "silence" and "unknown". Writes ds-cnn.pt (the state dict), calibration.npy (256 normalised MFCC of training
speech) and normalisation.npz (mean and deviation per coefficient, for your own recordings). Only the standard library
reads the .wav files: 16-bit, mono, 16 kHz.
"""

import argparse
import json
import math
import wave
from pathlib import Path

import numpy as np
import torch
from ds_cnn import COEFFICIENTS, DsCnn
from rich.progress import track
from torch import nn

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SILENCE, UNKNOWN = len(WORDS), len(WORDS) + 1
RATE, FRAME, HOP, FFT, MELS = 16_000, 640, 320, 1024, 40  # 40 ms every 20 ms: 49 frames in a second
LOWEST_HZ, HIGHEST_HZ = 20.0, 4000.0  # as in TensorFlow's speech_commands, which MLPerf Tiny takes its features from


def read(path: Path) -> np.ndarray:
    """One second of a recording, int16 [16000], cut or filled with zeros."""
    with wave.open(str(path)) as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
            raise SystemExit(f"{path}: expected one channel of 16 bits at {RATE} Hz")
        samples = np.frombuffer(file.readframes(RATE), "<i2")
    return np.pad(samples, (0, RATE - len(samples)))


def load(folder: Path, seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{"train" | "validation" | "test": (waves int16 [n, 16000], labels)}; the split is the data set's own."""
    lists = {part: folder / f"{part}_list.txt" for part in ("validation", "testing")}
    held_out = {line: part for part, path in lists.items() for line in path.read_text().split()}
    rng = np.random.default_rng(seed)
    chosen: dict[str, list[tuple[Path, int]]] = {"train": [], "validation": [], "testing": []}
    others: dict[str, list[tuple[Path, int]]] = {"train": [], "validation": [], "testing": []}
    for path in sorted(folder.glob("[!_]*/*.wav")):
        part = held_out.get(f"{path.parent.name}/{path.name}", "train")
        if path.parent.name in WORDS:
            chosen[part].append((path, WORDS.index(path.parent.name)))
        else:
            others[part].append((path, UNKNOWN))
    parts = {}
    for part, known in chosen.items():
        each = max(1, len(known) // len(WORDS))  # as many of "unknown" and "silence" as of a word
        unknown = [others[part][index] for index in rng.permutation(len(others[part]))[:each]]
        waves = [read(path) for path, _ in track([*known, *unknown], f"reading {part}")]
        noise = background(folder, each, rng)
        labels = [label for _, label in (*known, *unknown)] + [SILENCE] * each
        parts[part] = (torch.from_numpy(np.stack([*waves, *noise])), torch.tensor(labels))
    return parts


def background(folder: Path, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Seconds of the background recordings at random places and volumes."""
    files = sorted((folder / "_background_noise_").glob("*.wav"))
    recordings = []
    for path in files:
        with wave.open(str(path)) as file:
            recordings.append(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
    pieces = []
    for _ in range(count):
        recording = recordings[rng.integers(len(recordings))]
        start = rng.integers(max(1, len(recording) - RATE))
        piece = recording[start : start + RATE] * rng.uniform(0.0, 1.0)
        pieces.append(np.pad(piece, (0, RATE - len(piece))).astype("<i2"))
    return pieces


def mel_filters() -> torch.Tensor:
    """Triangles on the mel scale, mel = 2595 log10(1 + f / 700): float32 [bins, 40]."""
    edges = torch.linspace(*(2595 * math.log10(1 + hz / 700) for hz in (LOWEST_HZ, HIGHEST_HZ)), MELS + 2)
    edges = 700 * (10 ** (edges / 2595) - 1)
    bins = torch.arange(FFT // 2 + 1)[:, None] * (RATE / FFT)
    up = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(up, down).clamp(min=0)


def cosines() -> torch.Tensor:
    """The orthonormal DCT-II of 40 values, its first 10 coefficients: float32 [40, 10]."""
    angle = (torch.arange(MELS)[:, None] + 0.5) * torch.arange(COEFFICIENTS) * (math.pi / MELS)
    scale = torch.full((COEFFICIENTS,), math.sqrt(2 / MELS))
    scale[0] = math.sqrt(1 / MELS)
    return torch.cos(angle) * scale


def mfcc(waves: torch.Tensor) -> torch.Tensor:
    """Waves int16 [n, 16000] -> MFCC float32 [n, 1, 49, 10]."""
    frames = (waves.float() / 32768).unfold(1, FRAME, HOP) * torch.hann_window(FRAME)
    spectrum = torch.fft.rfft(frames, FFT).abs()
    return (torch.log(spectrum @ mel_filters() + 1e-6) @ cosines())[:, None]


def shifted(waves: torch.Tensor) -> torch.Tensor:
    """Up to 100 ms earlier or later."""
    return torch.roll(waves, int(torch.randint(-RATE // 10, RATE // 10 + 1, ())), dims=1)


def accuracy(model: nn.Module, features: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        found = torch.cat([model.eval()(batch).argmax(1) for batch in features.split(500)])
    return float((found == labels).float().mean())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    parts = load(options.data, options.seed)
    waves, labels = parts["train"]
    plain = torch.cat([mfcc(batch) for batch in waves.split(500)])
    mean, deviation = plain.mean(dim=(0, 1, 2)), plain.std(dim=(0, 1, 2))
    held_out = {part: ((mfcc(parts[part][0]) - mean) / deviation, parts[part][1]) for part in ("validation", "testing")}

    model, best, weights = DsCnn(), -1.0, {}
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs)
    for epoch in range(options.epochs):
        order = torch.randperm(len(labels)).split(options.batch)
        for batch in track(order, f"epoch {epoch + 1}/{options.epochs}"):
            model.train()
            features = (mfcc(shifted(waves[batch])) - mean) / deviation
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(features), labels[batch]).backward()
            optimiser.step()
        schedule.step()
        found = accuracy(model, *held_out["validation"])
        if found > best:
            best, weights = found, {name: value.clone() for name, value in model.state_dict().items()}
        print(f"epoch {epoch + 1}: validation {found:.1%}, best {best:.1%}")

    model.load_state_dict(weights)
    options.output.mkdir(parents=True, exist_ok=True)
    torch.save(weights, options.output / "ds-cnn.pt")
    some = torch.randperm(len(plain))[:256]
    np.save(options.output / "calibration.npy", ((plain[some] - mean) / deviation).numpy())
    np.savez(options.output / "normalisation.npz", mean=mean.numpy(), deviation=deviation.numpy())
    print(json.dumps({"validation": best, "test": accuracy(model, *held_out["testing"])}))


if __name__ == "__main__":
    main()
