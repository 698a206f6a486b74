"""aihwkit in a process and an environment of its own: answers one JSON line on stdout per JSON line on stdin.

Imports torch and aihwkit only, so that it runs where pcmedge is not installed. Configuration: aihwkit's inference
configuration as it comes, and its PCM noise model, which is what pcmedge's physics follows. Its compiled tile is used
where it works with the torch that is installed, else the same settings on its tile written in torch.

    {"do": "infer", "batch": 128}            seconds of one forward pass
    {"do": "program"}                        seconds of program_analog_weights
    {"do": "drift", "age_s": 86400}          seconds of drift_analog_weights
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from typing import Any


def _module(definition: str, settings: dict[str, Any], weights: str) -> Any:
    """The network of a Python file with ``settings`` of its own, and the weights of a state dict."""
    import torch

    spec = importlib.util.spec_from_file_location("benchmarked", definition)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    for name, value in settings.items():
        setattr(module, name, value)
    network = module.ResNet32()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


def _analog(network: Any) -> tuple[Any, str]:
    """The network on analog tiles, and which tile works here."""
    from aihwkit.nn.conversion import convert_to_analog
    from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig

    problem = ""
    for config, tile in ((InferenceRPUConfig, "compiled tile"), (TorchInferenceRPUConfig, "torch tile")):
        try:
            analog = convert_to_analog(network, config()).eval()
            analog.program_analog_weights()
        except RuntimeError as error:  # the compiled extension was built for another torch
            problem = str(error)
        else:
            return analog, tile
    raise RuntimeError(problem)


def _serve(order: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
    import aihwkit
    import numpy as np
    import torch

    torch.set_num_threads(order["threads"])
    torch.manual_seed(0)
    analog, tile = _analog(_module(order["definition"], order["settings"], order["weights"]))
    analog.drift_analog_weights(order["age_s"])
    pictures = torch.from_numpy(np.load(order["pictures"]))
    answer({"ready": True, "tile": tile, "versions": {"aihwkit": aihwkit.__version__, "torch": torch.__version__}})

    def infer(asked: dict[str, Any]) -> None:
        with torch.inference_mode():
            analog(pictures[: asked["batch"]])

    def program(asked: dict[str, Any]) -> None:
        with torch.no_grad():
            analog.program_analog_weights()

    def drift(asked: dict[str, Any]) -> None:
        with torch.no_grad():
            analog.drift_analog_weights(asked["age_s"])

    verbs = {"infer": infer, "program": program, "drift": drift}
    for line in sys.stdin:
        asked = json.loads(line)
        begin = time.perf_counter()
        verbs[asked["do"]](asked)
        answer({"seconds": time.perf_counter() - begin})


def main() -> None:
    # Whatever a library prints goes to stderr: stdout belongs to the answers.
    out, sys.stdout = sys.stdout, sys.stderr

    def answer(document: dict[str, Any]) -> None:
        out.write(json.dumps(document) + "\n")
        out.flush()

    line = sys.stdin.readline()
    if not line:
        return
    try:
        _serve(json.loads(line), answer)
    except Exception as problem:
        answer({"problem": f"{type(problem).__name__}: {problem}"})


if __name__ == "__main__":
    main()
