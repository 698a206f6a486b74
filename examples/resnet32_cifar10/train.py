"""Train ResNet-32 on CIFAR-10 for the chip, after Joshi et al. 2020: first without noise, then with the chip's.

    python train.py --data PATH --output models            # all of it
    python train.py --data PATH --output models --resume   # goes on after the last whole epoch

PATH holds CIFAR-10 in a form that pcmedge.data reads. The output folder gets float.pt and noise-aware.pt (weights),
checkpoint.pt (for --resume) and result.json. Needs: pip install 'pcmedge[train,data]'
"""

import argparse
import functools
import hashlib
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from augmentation import Part
from judging import accuracy, accuracy_with_noise
from network import ResNet32
from pcmedge.data import load_cifar10, stratified_split
from pcmedge.errors import Error
from pcmedge.training import NoiseSettings
from phase import Phase, Settings, weights
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

NEXT = {"float": "noise-aware", "noise-aware": "complete"}


def save(value: object, path: Path) -> None:
    """Whole or not at all: a run that is killed while it writes finds the last checkpoint."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            torch.save(value, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as problem:  # torch's own error, of a full disk too, is a RuntimeError
        temporary.unlink(missing_ok=True)
        raise Refused(
            f"{path} cannot be written: {problem}. The last checkpoint is whole; --resume goes on."
        ) from problem


class Refused(Exception):
    """What was asked cannot be done; the message is for the user."""


class Run:
    """Both phases in order, one epoch at a time; after each, all that is needed to go on is in ``output``."""

    def __init__(self, settings: Settings, train: Part, held_out: Part, output: Path, *, compiled: bool) -> None:
        self.settings, self.train, self.held_out, self.output = settings, train, held_out, output
        self.compiled = compiled
        self.phase, self.done = "float", 0  # epochs of the phase
        torch.manual_seed(settings.seed)
        self.model = ResNet32().to(train.labels.device, memory_format=torch.channels_last)
        self.saved: dict | None = None

    def begin(self, start: Path | None, warm: Path | None) -> None:
        """From random weights; or with the second phase, from those of ``start``; or with the first, from ``warm``."""
        if start is not None:
            load(self.model, start)
            save(weights(self.model), self.output / "float.pt")
            self.phase = "noise-aware"
        elif warm is not None:
            load(self.model, warm)

    def resume(self) -> bool:
        """Take up the checkpoint; False where there is none."""
        path = self.output / "checkpoint.pt"
        if not path.exists():
            return False
        saved = read(path)
        if "settings" not in saved:
            raise Refused(f"{path} is no checkpoint of this script. Move it away, or choose another --output.")
        if saved["settings"] != asdict(self.settings):
            raise Refused(
                f"{path} was made with other settings: {saved['settings']}; these are {asdict(self.settings)}."
            )
        self.saved, self.phase, self.done = saved, saved["phase"], saved["epoch"]
        return True

    def go_on(self, stop_after: int) -> bool:
        """``stop_after`` epochs (negative: no limit); whether the run is complete now."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn()) as progress:
            while self.phase in NEXT:
                phase = self._phase()
                steps, epochs = self.train.steps(self.settings.batch), self.settings.epochs_of(self.phase)
                bar = progress.add_task(self.phase, total=epochs * steps, completed=self.done * steps)
                while self.done < epochs:
                    if stop_after == 0:
                        return False
                    stop_after -= 1
                    progress.console.print(self._epoch(phase, functools.partial(progress.advance, bar)))
                phase.end()
                save(phase.best_weights, self.output / f"{self.phase}.pt")
                self.phase, self.done = NEXT[self.phase], 0
        return True

    def _phase(self) -> Phase:
        if self.phase == "noise-aware" and self.done == 0:
            load(self.model, self.output / "float.pt")
        steps = self.train.steps(self.settings.batch)
        phase = Phase(self.phase, self.model, self.settings, steps, compiled=self.compiled)
        if self.saved is not None:
            phase.restore(self.saved)
            self.saved = None
        return phase

    def _epoch(self, phase: Phase, advance: functools.partial) -> str:
        began = time.monotonic()
        loss = phase.train_epoch(self.train, self.done, advance)
        found = phase.judge(self.train, self.held_out)
        self.done += 1
        state = {"settings": asdict(self.settings), "phase": self.phase, "epoch": self.done, **phase.state()}
        save(state, self.output / "checkpoint.pt")
        of = f"{self.done}/{self.settings.epochs_of(self.phase)}"
        return f"{self.phase} {of}  loss {loss:.3f}  held out {found:.2%}  {time.monotonic() - began:.0f} s"


def read(path: Path) -> dict:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as problem:
        raise Refused(f"{path} cannot be read: {problem}") from problem
    except Exception as problem:  # zip, pickle and torch errors of every kind
        raise Refused(f"{path} is damaged, or was not written by this script.") from problem
    return found if isinstance(found, dict) else {}


def load(model: nn.Module, path: Path) -> None:
    found = read(path)
    expected = model.state_dict()
    if found.keys() != expected.keys() or any(found[key].shape != expected[key].shape for key in expected):
        raise Refused(f"{path} does not hold the weights of this network (network.py).")
    model.load_state_dict(found)


def fingerprint(path: Path | None) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None else ""


def test_once(settings: Settings, held_out: Part, test: Part, output: Path) -> dict[str, object]:
    """The only time the test pictures are looked at."""
    result: dict[str, object] = {"settings": asdict(settings), "torch": torch.__version__}
    for name in ("float", "noise-aware"):
        model = ResNet32().to(test.labels.device, memory_format=torch.channels_last)
        load(model, output / f"{name}.pt")
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
    check(parser, options)
    return options


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.start_from is not None and options.continue_from is not None:
        parser.error("--start-from skips the phase that --continue-from continues: give one of them")
    for name in ("start_from", "continue_from"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            parser.error(f"--{name.replace('_', '-')}: no such file: {path}")
    for name, least in (("batch", 1), ("held_out", 1), ("epochs", 0), ("fine_tune_epochs", 0), ("pictures", 0)):
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, found {getattr(options, name)}")
    if not 0 <= options.average < 1:
        parser.error(f"--average must be from 0 to below 1, found {options.average}")
    try:
        bits = {"dac_bits": options.dac_bits or None, "adc_bits": options.adc_bits or None}
        NoiseSettings(eta=options.eta, clip_sigma=options.alpha, **bits)
    except Error as error:
        parser.error(error.message)


def main(given: list[str] | None = None) -> None:
    options = arguments(given)
    try:
        complete = train(options)
    except KeyboardInterrupt:
        print("Stopped. The same command with --resume goes on after the last whole epoch.")
        sys.exit(130)
    except (Error, Refused, FloatingPointError) as problem:
        sys.exit(str(problem))
    if not complete:
        print("Not complete. The same command with --resume goes on after the last whole epoch.")
        sys.exit(0)


def train(options: argparse.Namespace) -> bool:
    """Whether the run is complete now. Raises Refused, FloatingPointError, and what reading pictures raises."""
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise Refused(f"--output {options.output} is no folder that can be written to: {problem.strerror}") from problem
    if not options.resume and (options.output / "checkpoint.pt").exists():
        raise Refused(f"{options.output} holds a checkpoint already: pass --resume, or choose another --output.")
    result_file = options.output / "result.json"
    if options.resume and result_file.exists():
        raise Refused(f"This run is complete: {result_file}")
    everything = load_cifar10(options.data, "train")
    test = Part.of(load_cifar10(options.data, "test"), device)
    if options.pictures:
        everything = everything[stratified_split(everything.labels, options.pictures, seed=options.seed)[1]]
    kept, chosen = stratified_split(everything.labels, min(options.held_out, len(everything) // 5), seed=options.seed)
    training, held_out = Part.of(everything[kept], device), Part.of(everything[chosen], device)
    settings = settings_of(options, device, held_out=len(chosen), pictures=len(everything))
    print(f"{len(kept)} pictures to train with, {len(chosen)} to choose by, {len(test.labels)} to test once; {device}")
    run = Run(settings, training, held_out, options.output, compiled=options.compile)
    if not (options.resume and run.resume()):
        run.begin(options.start_from, options.continue_from)
    if not run.go_on(options.stop_after):
        return False
    result = test_once(settings, held_out, test, options.output)
    temporary = result_file.with_suffix(".part")
    temporary.write_text(json.dumps(result, indent=2) + "\n")
    temporary.replace(result_file)
    for name in ("float", "noise-aware"):
        print(f"{name:12}", "  ".join(f"{key} {value:.2%}" for key, value in result[name].items()))
    return True


def settings_of(options: argparse.Namespace, device: torch.device, *, held_out: int, pictures: int) -> Settings:
    return Settings(
        epochs=options.epochs,
        fine_tune_epochs=options.fine_tune_epochs,
        eta=options.eta,
        alpha=options.alpha,
        average=options.average,
        dac_bits=options.dac_bits or None,
        adc_bits=options.adc_bits or None,
        batch=options.batch,
        held_out=held_out,
        pictures=pictures,
        seed=options.seed,
        precision=options.precision or ("bfloat16" if device.type == "cuda" else "float32"),
        started_from=fingerprint(options.start_from),
        continued_from=fingerprint(options.continue_from),
    )


if __name__ == "__main__":
    main()
