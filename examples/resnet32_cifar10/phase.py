"""One phase of training: the network, its average, the noise on it, the optimiser and its schedule, as one state."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from augmentation import Part, augmented, epoch_plan
from judging import accuracy_with_noise, refresh_batch_norm
from pcmedge.training import noise_aware
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

PEAK_RATE = 0.1  # learning rate per 128 pictures; half way there and back is where one-cycle schedules work best
FINE_TUNE_RATE = 0.05  # where the cosine of the second phase begins, per 128 pictures
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.05


@dataclass(frozen=True)
class Settings:
    """What decides the weights. A run resumes only under the settings it began with."""

    epochs: int
    fine_tune_epochs: int
    eta: float
    alpha: float
    average: float
    dac_bits: int | None
    adc_bits: int | None
    batch: int
    held_out: int
    pictures: int
    seed: int
    precision: str
    started_from: str  # SHA-256 of the file
    continued_from: str

    def epochs_of(self, phase: str) -> int:
        return self.epochs if phase == "float" else self.fine_tune_epochs


class Phase:
    """``name`` is "float" (no noise, one-cycle rate) or "noise-aware" (weight noise, converters, clipping, cosine)."""

    def __init__(self, name: str, model: nn.Module, settings: Settings, steps: int, *, compiled: bool) -> None:
        self.name, self.model, self.settings = name, model, settings
        # Averaged weights lie in flatter surroundings than those of any step. Copied before the noise is attached.
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
        self.noise = None
        if name == "noise-aware":
            converters = {"dac_bits": settings.dac_bits, "adc_bits": settings.adc_bits}
            self.noise = noise_aware(
                model, eta=settings.eta, clip_sigma=settings.alpha, seed=settings.seed, **converters
            )
        self.forward = torch.compile(model) if compiled and self.noise is None else model
        rate = (PEAK_RATE if self.noise is None else FINE_TUNE_RATE) * settings.batch / 128
        self.optimiser = torch.optim.SGD(
            model.parameters(), rate, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True
        )
        total = max(2, settings.epochs_of(name) * steps)
        if self.noise is None:
            self.schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.OneCycleLR(
                self.optimiser, rate, total, pct_start=0.3, cycle_momentum=False
            )
        else:
            self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, total)
        self.best, self.best_weights = -1.0, weights(model)

    def train_epoch(self, part: Part, epoch: int, advance: Callable[[], None]) -> float:
        """One pass over the pictures; the mean loss. Which crops and in which order follows from seed and epoch."""
        self.model.train()
        device, batch = part.labels.device, self.settings.batch
        order, choices = epoch_plan(len(part.labels), f"{self.settings.seed}/{self.name}/{epoch}", device)
        steps = part.steps(batch)
        total = torch.zeros((), device=device)
        for step in range(steps):
            now = slice(step * batch, (step + 1) * batch)
            chosen = order[now]
            with _reduced(self.settings.precision, device):
                scores = self.forward(augmented(part.pictures[chosen], choices[:, now]))
            loss = functional.cross_entropy(scores.float(), part.labels[chosen], label_smoothing=LABEL_SMOOTHING)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.schedule.step()
            if self.noise is not None:
                self.noise.clip()
            self.average.update_parameters(self.model)
            total += loss.detach()
            advance()
        mean = float(total / steps)
        if not math.isfinite(mean):
            raise FloatingPointError(
                "The loss is not finite. Choose a smaller --batch, which lowers the learning rate too."
            )
        return mean

    def judge(self, train: Part, held_out: Part) -> float:
        """Accuracy of the averaged weights, with their noise if they are trained with it; remembers the best."""
        refresh_batch_norm(self.average.module, train, self.settings.batch)
        found = accuracy_with_noise(self.average.module, held_out, self.settings.eta if self.noise else 0.0)
        if found >= self.best:
            self.best, self.best_weights = found, weights(self.average.module)
        return found

    def state(self) -> dict[str, object]:
        return {
            "best": self.best,
            "best_weights": self.best_weights,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "model": weights(self.model),
            "average": weights(self.average),
            "noise": self.noise.state_dict() if self.noise is not None else {},
        }

    def restore(self, saved: dict) -> None:
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.schedule.load_state_dict(saved["schedule"])
        self.best, self.best_weights = saved["best"], saved["best_weights"]
        if self.noise is not None:
            self.noise.load_state_dict(saved["noise"])

    def end(self) -> None:
        """Take the noise off the network again."""
        if self.noise is not None:
            self.noise.remove()


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}


def _reduced(precision: str, device: torch.device):
    """Convolutions and products in bfloat16, sums and weights in float32; or float32 throughout."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
