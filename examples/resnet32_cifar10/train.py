"""Train ResNet-32 on CIFAR-10 for the chip, after Joshi et al. 2020: first without noise, then with the chip's.

    python train.py --data PATH --output models            # all of it
    python train.py --data PATH --output models --resume   # goes on after the last whole epoch

PATH holds CIFAR-10 in a form that pcmedge.data reads. The output folder gets float.pt and noise-aware.pt (weights),
checkpoint.pt (for --resume) and result.json. Needs: pip install 'pcmedge[train,data]'
"""

import argparse
import copy
import functools
import hashlib
import json
import math
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from augmentation import Part, augmented, epoch_plan, normalised
from network import ResNet32
from pcmedge.data import load_cifar10, stratified_split
from pcmedge.errors import Error
from pcmedge.training import NoiseAware, noise_aware
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

PEAK_RATE = 0.1  # learning rate per 128 pictures; half way there and back is where one-cycle schedules work best
FINE_TUNE_RATE = 0.05  # where the cosine of the second phase begins, per 128 pictures
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.05
STATISTICS_BATCHES = 50
NOISE_DRAWS = 3


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


# --- One phase of training. ---


def reduced(precision: str, device: torch.device):
    """Convolutions and products in bfloat16, sums and weights in float32; or float32 throughout."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def steps_of(part: Part, batch: int) -> int:
    return max(1, len(part.labels) // batch)


def optimiser_and_schedule(model: nn.Module, phase: str, epochs: int, steps: int, batch: int):
    rate = (PEAK_RATE if phase == "float" else FINE_TUNE_RATE) * batch / 128
    optimiser = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True)
    total = max(2, epochs * steps)
    if phase == "float":
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total, pct_start=0.3, cycle_momentum=False)
    else:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
    return optimiser, schedule


def train_epoch(
    model,
    forward,
    handle: NoiseAware | None,
    average: AveragedModel,
    optimiser,
    schedule,
    part: Part,
    key: str,
    settings: Settings,
    advance,
) -> float:
    """One pass over the pictures; the mean loss. ``forward`` is the model, or the model compiled."""
    model.train()
    device, batch = part.labels.device, settings.batch
    order, choices = epoch_plan(len(part.labels), key, device)
    steps = steps_of(part, batch)
    total = torch.zeros((), device=device)
    for step in range(steps):
        now = slice(step * batch, (step + 1) * batch)
        chosen = order[now]
        with reduced(settings.precision, device):
            scores = forward(augmented(part.pictures[chosen], choices[:, now]))
        loss = functional.cross_entropy(scores.float(), part.labels[chosen], label_smoothing=LABEL_SMOOTHING)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if handle is not None:
            handle.clip()
        average.update_parameters(model)
        total += loss.detach()
        advance()
    return float(total / steps)


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
    for step in range(min(STATISTICS_BATCHES, steps_of(part, batch))):
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


# --- The run. ---


def save(value: object, path: Path) -> None:
    """Whole or not at all: a run that is killed while it writes finds the last checkpoint."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}


def run(
    settings: Settings,
    train: Part,
    held_out: Part,
    output: Path,
    start: Path | None,
    warm: Path | None,
    *,
    resume: bool,
    stop_after: int,
    compiled: bool,
) -> bool:
    """Both phases, or ``stop_after`` epochs of them (negative: no limit); whether they are complete now."""
    device, steps = train.labels.device, steps_of(train, settings.batch)
    lengths = {"float": settings.epochs, "noise-aware": settings.fine_tune_epochs}
    phase, done = "float", 0
    saved = checkpoint_of(settings, output) if resume else None
    if saved is not None:
        phase, done = saved["phase"], saved["epoch"]

    torch.manual_seed(settings.seed)
    model = ResNet32().to(device, memory_format=torch.channels_last)
    if start is not None and saved is None:
        model.load_state_dict(torch.load(start, map_location="cpu", weights_only=True))
        save(weights(model), output / "float.pt")
        phase = "noise-aware"
    if warm is not None and saved is None:
        model.load_state_dict(torch.load(warm, map_location="cpu", weights_only=True))

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        while phase in lengths:
            if phase == "noise-aware" and done == 0:
                model.load_state_dict(torch.load(output / "float.pt", map_location="cpu", weights_only=True))
            # Averaged weights lie in flatter surroundings than those of any step. Copied before the noise is attached.
            average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
            handle = None
            forward = torch.compile(model) if compiled and phase == "float" else model
            if phase == "noise-aware":
                converters = {"dac_bits": settings.dac_bits, "adc_bits": settings.adc_bits}
                handle = noise_aware(
                    model, eta=settings.eta, clip_sigma=settings.alpha, seed=settings.seed, **converters
                )
            optimiser, schedule = optimiser_and_schedule(model, phase, lengths[phase], steps, settings.batch)
            best, best_weights = -1.0, weights(model)
            if saved is not None:
                model.load_state_dict(saved["model"])
                average.load_state_dict(saved["average"])
                optimiser.load_state_dict(saved["optimiser"])
                schedule.load_state_dict(saved["schedule"])
                best, best_weights = saved["best"], saved["best_weights"]
                if handle is not None:
                    handle.load_state_dict(saved["noise"])
                saved = None
            bar = progress.add_task(phase, total=lengths[phase] * steps, completed=done * steps)

            for epoch in range(done, lengths[phase]):
                if stop_after == 0:
                    return False
                stop_after -= 1
                began, key = time.monotonic(), f"{settings.seed}/{phase}/{epoch}"
                advance = functools.partial(progress.advance, bar)
                loss = train_epoch(model, forward, handle, average, optimiser, schedule, train, key, settings, advance)
                if not math.isfinite(loss):
                    sys.exit("The loss is not finite. Choose a smaller --batch, which lowers the learning rate too.")
                refresh_batch_norm(average.module, train, settings.batch)
                noise = 0.0 if handle is None else settings.eta
                found = accuracy_with_noise(average.module, held_out, noise)
                if found >= best:
                    best, best_weights = found, weights(average.module)
                state = {"phase": phase, "epoch": epoch + 1, "best": best, "best_weights": best_weights}
                state |= {"optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
                state |= {"model": weights(model), "average": weights(average)}
                state |= {"noise": handle.state_dict() if handle is not None else {}}
                save({"settings": asdict(settings), **state}, output / "checkpoint.pt")
                progress.console.print(
                    f"{phase} {epoch + 1}/{lengths[phase]}  loss {loss:.3f}  held out {found:.2%}  "
                    f"{time.monotonic() - began:.0f} s"
                )

            if handle is not None:
                handle.remove()
            save(best_weights, output / f"{phase}.pt")
            phase, done = ("noise-aware" if phase == "float" else "complete"), 0
    return True


def fingerprint(path: Path | None) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None else ""


def checkpoint_of(settings: Settings, output: Path) -> dict | None:
    path = output / "checkpoint.pt"
    if not path.exists():
        return None
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if saved["settings"] != asdict(settings):
        sys.exit(f"{path} was made with other settings: {saved['settings']}; these are {asdict(settings)}.")
    return saved


def test_once(settings: Settings, held_out: Part, test: Part, output: Path) -> dict[str, object]:
    """The only time the test pictures are looked at."""
    result: dict[str, object] = {"settings": asdict(settings), "torch": torch.__version__}
    for name in ("float", "noise-aware"):
        model = ResNet32().to(test.labels.device, memory_format=torch.channels_last)
        model.load_state_dict(torch.load(output / f"{name}.pt", map_location="cpu", weights_only=True))
        result[name] = {
            "held_out": accuracy(model, held_out),
            "held_out_with_noise": accuracy_with_noise(model, held_out, settings.eta),
            "test": accuracy(model, test),
        }
    return result


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with CIFAR-10")
    parser.add_argument("--output", type=Path, default=Path("models"), help="folder for weights and checkpoint")
    parser.add_argument("--epochs", type=int, default=60, help="without noise")
    parser.add_argument("--fine-tune-epochs", type=int, default=20, help="with noise")
    parser.add_argument("--eta", type=float, default=0.038, help="weight noise as a share of w_max; 0 for none")
    parser.add_argument("--alpha", type=float, default=2.0, help="clip weights at so many standard deviations")
    parser.add_argument(
        "--average", type=float, default=0.998, help="decay per step of the average of weights; 0: the last"
    )
    parser.add_argument("--dac-bits", type=int, default=8, help="of layer inputs while fine-tuning; 0: not rounded")
    parser.add_argument("--adc-bits", type=int, default=8, help="of layer outputs while fine-tuning; 0: not rounded")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--held-out", type=int, default=5000, help="training pictures kept for choosing")
    parser.add_argument("--pictures", type=int, default=0, help="use only so many training pictures, to try it out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    precisions = ("float32", "bfloat16")
    parser.add_argument("--precision", choices=precisions, help="of products; default: bfloat16 on CUDA, else float32")
    parser.add_argument("--compile", action="store_true", help="torch.compile the phase without noise: faster")
    parser.add_argument("--start-from", type=Path, help="a float.pt: skips the first phase")
    parser.add_argument("--continue-from", type=Path, help="a float.pt: the first phase begins from it (warm restart)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    parser.add_argument("--stop-after", type=int, default=-1, help="end this call after so many epochs")
    options = parser.parse_args(given)
    if options.start_from is not None and options.continue_from is not None:
        parser.error("--start-from skips the phase that --continue-from continues: give one of them")
    for name in ("start_from", "continue_from"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            parser.error(f"--{name.replace('_', '-')}: no such file: {path}")
    return options


def main(given: list[str] | None = None) -> None:
    options = arguments(given)
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.resume and (options.output / "checkpoint.pt").exists():
        sys.exit(f"{options.output} holds a checkpoint already: pass --resume, or choose another --output.")
    result_file = options.output / "result.json"
    if options.resume and result_file.exists():
        sys.exit(f"This run is complete: {result_file}")
    try:
        everything = load_cifar10(options.data, "train")
        test = Part.of(load_cifar10(options.data, "test"), device)
    except Error as error:
        sys.exit(error.message)
    if options.pictures:
        everything = everything[stratified_split(everything.labels, options.pictures, seed=options.seed)[1]]
    kept, chosen = stratified_split(everything.labels, min(options.held_out, len(everything) // 5), seed=options.seed)
    train, held_out = Part.of(everything[kept], device), Part.of(everything[chosen], device)
    settings = Settings(
        epochs=options.epochs,
        fine_tune_epochs=options.fine_tune_epochs,
        eta=options.eta,
        alpha=options.alpha,
        average=options.average,
        dac_bits=options.dac_bits or None,
        adc_bits=options.adc_bits or None,
        batch=options.batch,
        held_out=len(chosen),
        pictures=len(everything),
        seed=options.seed,
        precision=options.precision or ("bfloat16" if device.type == "cuda" else "float32"),
        started_from=fingerprint(options.start_from),
        continued_from=fingerprint(options.continue_from),
    )
    print(f"{len(kept)} pictures to train with, {len(chosen)} to choose by, {len(test.labels)} to test once; {device}")
    complete = interrupted = False
    try:
        complete = run(
            settings,
            train,
            held_out,
            options.output,
            options.start_from,
            options.continue_from,
            resume=options.resume,
            stop_after=options.stop_after,
            compiled=options.compile,
        )
    except KeyboardInterrupt:
        interrupted = True
    if not complete:
        print("Not complete. The same command with --resume goes on after the last whole epoch.")
        sys.exit(130 if interrupted else 0)
    result = test_once(settings, held_out, test, options.output)
    temporary = result_file.with_suffix(".part")
    temporary.write_text(json.dumps(result, indent=2) + "\n")
    temporary.replace(result_file)
    for name in ("float", "noise-aware"):
        print(f"{name:12}", "  ".join(f"{key} {value:.2%}" for key, value in result[name].items()))


if __name__ == "__main__":
    main()
