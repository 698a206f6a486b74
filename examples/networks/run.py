"""Compile one of the networks, program an emulated chip with it, and compare its answers with ONNX Runtime's.

python examples/networks/run.py resnet34                          # random weights, synthetic inputs
python examples/networks/run.py resnet34 --weights resnet34.pt --calibration pictures.npy --output resnet34.pcmi

Needs pcmedge[train]. Random weights and synthetic inputs come from --seed, so a run can be repeated.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pcmedge
import torch
from catalogue import NETWORKS, random_network
from pcmedge.frontends import torch as frontend
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import nn

Result = dict[str, Any]


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(1)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        result = run(options, bars)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a state dict written by torch.save")
    parser.add_argument("--size", type=int, help="pixels along a side, or words; the network's own by default")
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help=".npy of typical inputs; synthetic ones by default"
    )
    parser.add_argument("--samples", type=int, default=32, help="how many synthetic inputs to calibrate with")
    parser.add_argument("--batch", type=int, default=4, help="how many inputs to compare")
    parser.add_argument("--scaling", choices=("column", "layer"), default="column")
    parser.add_argument("--bias", choices=("digital", "row"), default="digital")
    parser.add_argument("--profile", default="pcm-512x512")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE", help="keep the image")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, bars: Progress) -> Result:
    network = NETWORKS[options.network]
    size = options.size or network.size
    module = load(options.network, size, options.weights, options.seed)
    inputs = network.inputs(options.batch, size, options.seed + 1, module)
    if options.calibration:
        calibration = np.load(options.calibration, allow_pickle=False)
        inputs = calibration[: options.batch]
    else:
        calibration = network.inputs(options.samples, size, options.seed + 2, module)
    result: Result = {
        "network": options.network,
        "weights": str(options.weights) if options.weights else f"random, seed {options.seed}",
        "calibration": str(options.calibration) if options.calibration else f"synthetic, {len(calibration)} inputs",
        "input": list(inputs.shape[1:]),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
    }
    with timed(result, "export"):
        model = frontend.load(module, torch.from_numpy(inputs[:1]))
    with timed(result, "compile"), bar(bars, "compiling") as update:
        image = pcmedge.compile(
            model,
            calibration=calibration,
            profile=options.profile,
            name=options.network,
            scaling=options.scaling,
            bias=options.bias,
            buffer="synthetic",
            progress=update,
        )
    if options.output:
        image.save(options.output)
    placement, profile = image.manifest.placement, image.manifest.profile
    result |= {
        "analog_weights": placement.analog_weights,
        "devices": placement.devices,
        "tiles": len(image.tiles()),
        "chip": f"{profile.tiles} tiles of {profile.tile_rows} x {profile.tile_columns}",
        "image_bytes": image.size,
    }
    expected = float_answers(model, inputs)
    noisy = answers(image, inputs, result, bars, "pcm-90nm", physics="pcm-90nm", seed=options.seed)
    exact = answers(
        image, inputs, result, bars, "effects off", physics="ideal", converters="ideal", read_noise="off"
    )  # fmt: skip
    result["relative_error"] = float(np.abs(exact - expected).max() / np.abs(expected).max())
    result["pcm_90nm_deviation"] = float(np.linalg.norm(noisy - expected) / np.linalg.norm(expected))
    return result


def load(name: str, size: int, weights: Path | None, seed: int) -> nn.Module:
    if weights is None:
        return random_network(name, size, seed)
    found = torch.load(weights, map_location="cpu", weights_only=True)
    state = found.get("model", found)  # DeiT's own files hold the state dict under "model"
    module = NETWORKS[name].make(size, state)
    module.load_state_dict(state)
    return module.eval()


def float_answers(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    """What ONNX Runtime computes with the float model."""
    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), threads, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: inputs})[0])


def answers(
    image: pcmedge.ChipImage, inputs: np.ndarray, result: Result, bars: Progress, what: str, **chip: Any
) -> np.ndarray:
    """What an emulated chip answers right after programming."""
    key = what.replace("-", "_").replace(" ", "_")
    with pcmedge.Emulator(profile=image.manifest.profile, clock="manual", **chip) as device:
        with timed(result, f"program_{key}"), bar(bars, f"programming, {what}") as update:
            device.program(image, progress=lambda step: update(step.phase, step.done, step.total))
        with timed(result, f"infer_{key}"):
            return np.asarray(device.infer(inputs))


@contextmanager
def bar(bars: Progress, description: str) -> Iterator[Any]:
    task = bars.add_task(description, total=None)
    yield lambda phase, done, total: bars.update(
        task, description=f"{description}: {phase}", completed=done, total=total or None
    )
    bars.remove_task(task)


@contextmanager
def timed(result: Result, what: str) -> Iterator[None]:
    """Wall and processor seconds of a step, and the most memory the process has held up to its end."""
    begin, processor = time.perf_counter(), time.process_time()
    yield
    result[f"{what}_s"] = round(time.perf_counter() - begin, 2)
    result[f"{what}_cpu_s"] = round(time.process_time() - processor, 2)
    unit = 1 if sys.platform == "darwin" else 1024
    result[f"{what}_peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


STEPS = {
    "export": "export to ONNX",
    "compile": "compile",
    "program_pcm_90nm": "program, pcm-90nm",
    "infer_pcm_90nm": "infer, pcm-90nm",
    "program_effects_off": "program, effects off",
    "infer_effects_off": "infer, effects off",
}


def show(result: Mapping[str, Any]) -> None:
    facts = Table(show_header=False, box=None)
    for name, text in (
        ("network", f"{result['network']}, {result['parameters']:,} parameters; weights {result['weights']}"),
        ("calibration", f"{result['calibration']} of shape {result['input']}"),
        ("on the chip", f"{result['analog_weights']:,} weights on {result['devices']:,} devices"),
        ("tiles", f"{result['tiles']} of {result['chip']}"),
        ("image", f"{result['image_bytes'] / 2**20:,.1f} MiB"),
        ("effects off", f"max|a - b| / max|b| = {result['relative_error']:.1e} against ONNX Runtime"),
        ("pcm-90nm", f"|a - b| / |b| = {result['pcm_90nm_deviation']:.2f} right after programming"),
    ):
        facts.add_row(name, text)
    steps = Table("step", "wall s", "processor s", "peak memory, MiB", box=None)
    for step, title in STEPS.items():
        wall, processor, peak = (result[f"{step}_{what}"] for what in ("s", "cpu_s", "peak_rss_bytes"))
        steps.add_row(title, f"{wall:.2f}", f"{processor:.2f}", f"{peak / 2**20:,.0f}")
    Console().print(facts, steps, sep="\n\n")


if __name__ == "__main__":
    main()
