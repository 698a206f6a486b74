"""What a network in training reaches, and the batch norm statistics it is judged with."""

import copy

import torch
from augmentation import Part, augmented, epoch_plan, normalised
from torch import nn

STATISTICS_BATCHES = 50
NOISE_DRAWS = 3


@torch.no_grad()
def refresh_batch_norm(model: nn.Module, part: Part, batch: int) -> None:
    """Running statistics of averaged, clean weights, on augmented pictures: those of plain ones cost accuracy."""
    model.eval()  # no noise
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    order, choices = epoch_plan(len(part.labels), "refresh", part.labels.device)
    for step in range(min(STATISTICS_BATCHES, part.steps(batch))):
        now = slice(step * batch, (step + 1) * batch)
        model(augmented(part.pictures[order[now]], choices[:, now]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, part: Part) -> float:
    model.eval()
    right = sum(
        int((model(normalised(pictures)).argmax(1) == labels).sum())
        for pictures, labels in zip(part.pictures.split(500), part.labels.split(500), strict=True)
    )
    return right / len(part.labels)


@torch.no_grad()
def accuracy_with_noise(model: nn.Module, part: Part, eta: float) -> float:
    """Mean over a few draws of N(0, (eta * w_max)^2) on every weight: the same draws each time it is asked."""
    if not eta:
        return accuracy(model, part)
    found = []
    for draw in range(NOISE_DRAWS):
        noisy = copy.deepcopy(model)
        generator = torch.Generator().manual_seed(draw)
        for module in noisy.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                noise = torch.randn(module.weight.shape, generator=generator).to(module.weight.device)
                module.weight += eta * module.weight.abs().max() * noise
        found.append(accuracy(noisy, part))
    return sum(found) / len(found)
