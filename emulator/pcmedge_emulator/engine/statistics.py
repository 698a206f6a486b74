"""Batch-norm statistics as parameters of a request, and the two ways to measure them on the chip.

* ``batch``: BatchNormalization in training mode with momentum 0, the measurement of adaptive batch-norm statistics as
  published (Joshi et al. 2020): every node normalises by its batch and yields batch mean and population variance.
* ``paired``: with ``chip`` the statistics measured on the chip, ``dig`` those the same samples gave digitally, and
  ``run`` the image's own running statistics::

      mu'  = mu_chip + (mu_run - mu_dig) * sqrt(var_chip / var_dig)
      var' = var_run * var_chip / var_dig

  What the buffer has of its own, mu_run - mu_dig and var_run / var_dig, cancels; a signal that the chip scales by s
  and shifts by d gives exactly s mu_run + d and s^2 var_run. Both are used at once to normalise, so that later layers
  see the corrected signal, and are returned. A channel that says nothing (digital variance below 1e-6 of the image's,
  or measured variance below 1e-6 of the digital one: a dead channel, a constant buffer) keeps the statistics in force.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper
from pcmedge.errors import InputShapeError, InputValueError

from pcmedge_emulator.engine.graph import GraphBuilder, ParameterLayout, Source, Statistics
from pcmedge_emulator.engine.program import BatchNorm, ChipProgram
from pcmedge_emulator.engine.state import Parameters

Mode = Literal["run", "batch", "paired"]
FloatArray = npt.NDArray[np.float32]

# Below this share of the variance it is compared with, a variance is rounding: no scale can be taken from it.
DEAD = 1e-6


def rewrite_batch_norm(
    node: onnx.NodeProto, program: ChipProgram, builder: GraphBuilder, layout: ParameterLayout, mode: Mode
) -> tuple[str, str] | None:
    """Copy one BatchNormalization node into ``builder`` with its statistics taken from ``layout``.

    Returns the names of the measured mean and variance (None in mode "run").
    """
    name = node.name
    norm = program.statistics[name]
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    copy.attribute.append(helper.make_attribute("epsilon", norm.epsilon))
    if mode == "run":
        copy.input[3], copy.input[4] = _in_force(name, norm, builder, layout)
        builder.nodes.append(copy)
        return None
    mean, var = builder.fresh(f"{name}/mean"), builder.fresh(f"{name}/variance")
    measure = copy if mode == "batch" else onnx.NodeProto()
    if mode == "paired":
        measure.CopyFrom(copy)
        measure.output[0] = builder.fresh(f"{name}/unused")
        measure.name = measure.output[0]
    measure.input[3], measure.input[4] = _overwritten(name, norm, layout, builder)
    measure.attribute.extend([helper.make_attribute("training_mode", 1), helper.make_attribute("momentum", 0.0)])
    del measure.output[1:]
    measure.output.extend([mean, var])
    builder.nodes.append(measure)
    if mode == "batch":
        return mean, var
    copy.input[3], copy.input[4] = _paired(name, norm, mean, var, builder, layout)
    builder.nodes.append(copy)
    return copy.input[3], copy.input[4]


def statistics_in_force(name: str, norm: BatchNorm, parameters: Parameters) -> tuple[FloatArray, FloatArray]:
    """Mean and variance a node normalises with: the recalibrated ones, or the image's."""
    mean, var = parameters.statistics.get(name, (norm.mean, norm.var))
    for values in (mean, var):
        if np.shape(values) != norm.mean.shape:
            raise InputShapeError(
                f"statistics of {name!r}: expected shape {norm.mean.shape}, found {np.shape(values)}", node=name
            )
    return mean, var


def _in_force(name: str, norm: BatchNorm, builder: GraphBuilder, layout: ParameterLayout) -> tuple[str, str]:
    def pick(index: int) -> Source:
        return lambda parameters, _reference: statistics_in_force(name, norm, parameters)[index]

    mean = layout.add(builder.fresh(f"{name}/mean_in_force"), norm.mean.size, pick(0))
    var = layout.add(builder.fresh(f"{name}/variance_in_force"), norm.mean.size, pick(1))
    return mean, var


def _overwritten(name: str, norm: BatchNorm, layout: ParameterLayout, builder: GraphBuilder) -> tuple[str, str]:
    """Two inputs of its own for a node in training mode.

    ONNX Runtime writes the measured statistics over the memory of the running ones, without regard to who else reads
    it; given an initializer (which it may have merged with another of equal value), it would corrupt the model.
    """

    def zeros(_parameters: Parameters, _reference: Statistics) -> FloatArray:
        return np.zeros(norm.mean.size, np.float32)

    return (
        layout.add(builder.fresh(f"{name}/overwritten_mean"), norm.mean.size, zeros),
        layout.add(builder.fresh(f"{name}/overwritten_variance"), norm.mean.size, zeros),
    )


def _paired(
    name: str, norm: BatchNorm, mean_chip: str, var_chip: str, builder: GraphBuilder, layout: ParameterLayout
) -> tuple[str, str]:
    def digital(reference: Statistics) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        if name not in reference:
            raise InputValueError(
                f"paired statistics need reference statistics of {name!r}, which are missing", node=name
            )
        mean, var = (np.asarray(values, np.float64) for values in reference[name])
        if mean.shape != norm.mean.shape or var.shape != norm.var.shape:
            raise InputShapeError(
                f"reference statistics of {name!r}: expected shape {norm.mean.shape}, found {mean.shape}", node=name
            )
        return mean, var

    def alive(var: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        return (var > DEAD * norm.var) & (var > 0)

    def inverse(_parameters: Parameters, reference: Statistics) -> npt.NDArray[np.float64]:
        _mean, var = digital(reference)
        return np.where(alive(var), 1.0 / np.where(alive(var), var, 1.0), 0.0)

    def floor(_parameters: Parameters, reference: Statistics) -> npt.NDArray[np.float64]:
        _mean, var = digital(reference)
        return np.where(alive(var), DEAD * var, np.float64(np.finfo(np.float32).max))

    def put(hint: str, source: Callable[[Parameters, Statistics], npt.NDArray[np.float64]]) -> str:
        return layout.add(builder.fresh(f"{name}/{hint}"), norm.mean.size, source)

    buffer_bias = put(
        "buffer_bias", lambda _parameters, reference: norm.mean.astype(np.float64) - digital(reference)[0]
    )
    var_run = put("variance_run", lambda _parameters, _reference: norm.var.astype(np.float64))
    inverse_var_dig, least = put("inverse_variance_digital", inverse), put("floor", floor)
    mean_kept, var_kept = _in_force(name, norm, builder, layout)
    ratio = builder.node("Mul", [var_chip, inverse_var_dig], f"{name}/ratio")
    gain = builder.node("Sqrt", [ratio], f"{name}/gain")
    shift = builder.node("Mul", [buffer_bias, gain], f"{name}/shift")
    mean = builder.node("Add", [mean_chip, shift], f"{name}/paired_mean")
    var = builder.node("Mul", [var_run, ratio], f"{name}/paired_variance")
    speaks = builder.node("Greater", [var_chip, least], f"{name}/speaks")
    return (
        builder.node("Where", [speaks, mean, mean_kept], f"{name}/new_mean"),
        builder.node("Where", [speaks, var, var_kept], f"{name}/new_variance"),
    )
