"""``compile``: the passes in order, from a model to a chip image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import onnx

from pcmedge._contract.image_pb2 import ChipProfile, Preprocessing
from pcmedge.errors import AnalogShareError, ImageTooLargeError
from pcmedge.frontends.interface import interface_of
from pcmedge.image import ChipImage
from pcmedge.image.profiles import get_profile
from pcmedge.image.targets import TargetFormat

from . import costs
from .assembly import Parts, assemble
from .batch import require_independent_samples
from .bias import BiasChoice, place_biases
from .buffers import BufferChoice, choose_buffer
from .calibration import calibration_set
from .clipping import EXPECTED_NOISE, Noise, Scalings
from .coverage import InputMeter
from .graph import Array, Graph
from .layers import Layer
from .lowering import lower
from .measure import BlockKey, first_pass, moments_of, second_pass
from .options import Options, parse_share, too_large
from .placement import Region, place
from .post_training import store_weights
from .ranges import RangeChoice, choose_dac
from .references import choose_reference
from .runtime import FloatModel, complete_types
from .source import load, prepare, provenance
from .statistics import plan_statistics

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, int, int], None]


def compile(
    model: torch.nn.Module | onnx.ModelProto | str | os.PathLike[str],
    example_input: Any = None,
    *,
    calibration: Any,
    profile: str | os.PathLike[str] | ChipProfile | Mapping[str, Any] = "pcm-512x512",
    name: str | None = None,
    version: int = 1,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    scaling: Scalings = "layer",
    clip_sigma: float | Literal["search"] | None = None,
    expected_noise: Noise = EXPECTED_NOISE,
    bias_correction: bool = False,
    adc_range: RangeChoice = "mse",
    dac_range: RangeChoice = "mse",
    require_analog: str | float | None = None,
    buffer: Literal["calibration", "synthetic"] | BufferChoice = "calibration",
    buffer_samples: int = 64,
    buffer_seed: int = 0,
    reference: Any = None,
    recorded_statistics: bool = True,
    bias: BiasChoice = "digital",
    targets: TargetFormat = "int16",
    description: str = "",
    progress: Progress | None = None,
) -> ChipImage:
    """Compile a model into a chip image. The same arguments give the same bytes.

    ``model``: a torch module (then ``example_input`` is one example batch; a tuple or mapping for several inputs), an
    ONNX ``ModelProto`` or the path of an ONNX or ``.tflite`` file. The first axis of every input is the batch axis.

    ``calibration``: typical inputs, a few hundred samples: an array, a mapping input name -> array, or an iterable of
    batches. Converter ranges and recorded statistics come from them.

    ``profile``: name of a chip profile, a ``ChipProfile``, a mapping of its fields, or the path of a JSON file.
    ``scaling``: weights are normalised per "layer" or per "column"; "auto": per column in layers where that saves 5 %
    of the expected error. ``clip_sigma``: clip weights at so many standard deviations first; "search": by layer (with a
    scale per column by column) what makes the expected error least. ``expected_noise``: what both assume of a
    programmed conductance: its standard deviation over g_max, one number or the coefficients (lowest power first) of a
    polynomial in the conductance over g_max. ``bias_correction``: give back digitally what clipping shifts mean
    pre-activations by. See docs/compiler.md, "Networks that were not trained for the chip". ``adc_range``,
    ``dac_range``: "mse" (least square error) or "max" (largest value seen). ``require_analog``: fail below this share
    of MACs in memory, for instance "95%".

    ``buffer``: what the device recalibrates with: "calibration" (``buffer_samples`` of the calibration set),
    "synthetic" (made from ``buffer_seed`` when needed, chosen to drive the layers as ``calibration`` does), samples in
    the forms of ``calibration``, or None.
    ``reference``: how many samples of the calibration set go into the self-test (default 16), "synthetic" (16 made
    ones, no relation to your data, that the network is sure of), or the samples.
    ``recorded_statistics``: put an identity batch norm behind hidden layers without one. ``bias``: biases of analog
    layers are added digitally, or lie on a crossbar "row" of their own where one can express them. ``targets``: how
    the image stores conductances: "int16", or "float32" at twice the size, for comparing with the model while every
    analog effect is off (no device can be programmed that finely). ``labels`` and ``preprocessing`` describe the
    application side. ``progress(phase, done, total)`` is called as work goes on.

    Digital values in the image (reference outputs, statistics) are those of the model as given, before clipping.

    Raises CompileError (UnsupportedOperatorError, CalibrationError, AnalogShareError), ImageTooLargeError, InputError,
    FileMissingError, MissingExtraError.
    """
    options = Options(
        scaling=scaling,
        clip_sigma=clip_sigma,
        expected_noise=expected_noise,
        bias_correction=bias_correction,
        adc_range=adc_range,
        dac_range=dac_range,
        require_analog=parse_share(require_analog),
        recorded_statistics=recorded_statistics,
        bias=bias,
        targets=targets,
    )
    chip = get_profile(profile)
    say = progress or (lambda phase, done, total: None)
    say("load", 0, 1)
    source = load(model, example_input, name)
    say("load", 1, 1)
    front = prepare(source)
    samples = calibration_set(front.graph, calibration)
    require_independent_samples(front.graph, samples)
    complete_types(front.graph, samples)

    graph, layers = front.graph, front.matching.layers
    plan = plan_statistics(graph, layers, record=options.recorded_statistics)
    regions = _place(layers, chip)
    stored = store_weights(graph, layers, plan, samples, options, _phase(say, "weights"))
    recorded_tensors = {layer.name: layer.output for layer in layers if layer.name in plan.recorded}
    seen, recorded = first_pass(graph, layers, recorded_tensors, samples, _phase(say, "statistics"))
    levels = {layer.name: choose_dac(seen[layer.name], int(chip.dac_bits), dac_range) for layer in layers}
    biases = place_biases(stored.graph, stored.layers, stored.scaled, levels, bias)
    layers, scaled = biases.layers, biases.scaled
    regions = _place(layers, chip, before=regions)
    ranges = second_pass(
        graph, layers, scaled, regions, seen, samples, chip, dac_range, adc_range, _phase(say, "ranges")
    )
    program = lower(stored.graph, layers, plan, recorded)

    sizes = _sizes(graph, layers, samples)
    layer_costs = {
        layer.name: costs.layer_cost(
            layer,
            {block.name: regions[layer.name, block.name] for block in layer.blocks},
            {block.name: ranges[layer.name, block.name].dac.signed for block in layer.blocks},
            costs.positions(layer, sizes),
            chip,
        )
        for layer in layers
    }
    digital_parameters = sum(value.size for value in program.constants.values())
    report = costs.report(
        graph, layers, front.matching.digital, layer_costs, sizes, chip, digital_parameters, biases.notes
    )
    _require_share(options.require_analog, report)

    say("buffer", 0, 1)
    chosen = choose_buffer(graph, layers, buffer, samples, count=buffer_samples, seed=buffer_seed)
    moments = moments_of(graph, plan.inputs, chosen.samples) if chosen.samples is not None else {}
    reference_inputs = choose_reference(graph, layers, reference, samples, seed=buffer_seed)
    reference_outputs = FloatModel(graph, graph.output_names).run(reference_inputs)
    say("buffer", 1, 1)

    say("write", 0, 1)
    image = assemble(
        Parts(
            name=source.name,
            version=version,
            description=description,
            profile=chip,
            graph=graph,
            program=program,
            layers=layers,
            plan=plan,
            scaled=scaled,
            regions=regions,
            ranges=ranges,
            report=report,
            buffer=chosen,
            reference_moments=moments,
            reference=(reference_inputs, reference_outputs),
            labels=labels if labels is not None else source.labels or None,
            preprocessing=preprocessing,
            interface=interface_of(source.model),
            provenance=provenance(source, options, len(next(iter(samples.values())))),
        )
    )
    say("write", 1, 1)
    return image


def input_meter(model: onnx.ModelProto | str | os.PathLike[str], calibration: Any) -> InputMeter:
    """Measures how well a calibration buffer would cover a model (:mod:`pcmedge.compiler.coverage`); for studies.

    Arguments and errors as of :func:`compile`, which chooses synthetic buffers by this measure.
    """
    front = prepare(load(model, None, None))
    samples = calibration_set(front.graph, calibration)
    complete_types(front.graph, samples)
    return InputMeter(front.graph, front.matching.layers, samples)


def _place(
    layers: Sequence[Layer], profile: ChipProfile, before: Mapping[BlockKey, Sequence[Region]] | None = None
) -> dict[BlockKey, list[Region]]:
    """Tiles of every block; ``before`` is where they were without bias rows."""
    regions = {
        (layer.name, block.name): place(block, profile.tile_rows, profile.tile_columns)
        for layer in layers
        for block in layer.blocks
    }
    needed = sum(len(found) for found in regions.values())
    if needed > profile.tiles:
        by_layer: dict[str, int] = {}
        for (layer_name, _), found in regions.items():
            by_layer[layer_name] = by_layer.get(layer_name, 0) + len(found)
        more = 0 if before is None else needed - sum(len(found) for found in before.values())
        raise ImageTooLargeError(too_large(profile, needed, by_layer, more), needed=needed, available=profile.tiles)
    return regions


def _sizes(graph: Graph, layers: Sequence[Layer], samples: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    model = FloatModel(graph, costs.tensors_to_measure(graph, layers))
    return {name: value.shape for name, value in model.run({key: value[:1] for key, value in samples.items()}).items()}


def _require_share(required: float | None, report: Any) -> None:
    total = report.analog_macs + report.digital_macs
    share = report.analog_macs / total if total else 0.0
    if required is None or share >= required:
        return
    digital = [
        f"  {node.node} ({node.operator}), {node.macs} MACs: {node.reason}"
        for node in report.nodes
        if node.macs and not node.analog
    ]
    raise AnalogShareError(
        f"Expected at least {required:.1%} of the MACs in memory, found {share:.1%}. What stayed digital:\n"
        + "\n".join(digital),
        required=required,
        found=share,
    )


def _phase(say: Progress, phase: str) -> Callable[[int, int], None]:
    return lambda done, total: say(phase, done, total)
