"""Programming an image onto physical tiles: what happens between a verified image and tiles that can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import CancelledError, ImageProfileError
from pcmedge.image import ChipImage, Tile

from pcmedge_emulator import outcomes
from pcmedge_emulator.calibration.gdc import cell_weights, probe
from pcmedge_emulator.circuits import Circuits
from pcmedge_emulator.crossbar.converters import converter_spread
from pcmedge_emulator.crossbar.tile import conductances, program_tile
from pcmedge_emulator.engine import ChipProgram
from pcmedge_emulator.fit import differences
from pcmedge_emulator.physics.programming import ProgramAndVerify
from pcmedge_emulator.resident import Programmed, ProgrammedTile, drive
from pcmedge_emulator.streams import Streams

IMAGE_FEATURES = (
    "pcm-analog-1",
    "lstm-1",
    "bias-row-1",
    "float-targets-1",
    "synthetic-buffer-1",
    "synthetic-buffer-2",
)
"""What this device can do of what an image may require."""


def check_profile(image: ChipImage, profile: ChipProfile) -> None:
    """ImageProfileError when the image was compiled for another geometry or other converters than the chip's."""
    wanted = image.manifest.profile
    if different := differences(image, profile):
        facts = ", ".join(f"{name} {getattr(wanted, name)} (chip: {getattr(profile, name)})" for name in different)
        raise ImageProfileError(
            f"Image '{image.name}' was compiled for the profile '{wanted.name}', this chip is '{profile.name}': "
            f"{facts}. "
            f"Compile it with profile='{profile.name}'.",
            image_profile=wanted.name,
            chip_profile=profile.name,
            different=",".join(different),
        )


def program_on(profile: ChipProfile, image: ChipImage) -> ChipProgram:
    """The program of an image on this chip: geometry is the same, IR drop and the like are the chip's own.

    Raises ImageCorruptError when the parts of the image disagree.
    """
    return replace(ChipProgram.from_image(image), profile=profile)


def program_image(
    image: ChipImage,
    program: ChipProgram,
    profile: ChipProfile,
    physical: tuple[int, ...],
    generation: int,
    circuits: Circuits,
    streams: Streams,
    *,
    options: outcomes.ProgramAndVerify | None,
    progress: Callable[[str, int, int], None],
    cancelled: Callable[[], bool],
) -> tuple[Programmed, tuple[outcomes.TileProgramming, ...]]:
    """Programs every tile and reads its baseline; CancelledError between two tiles if asked to stop.

    ``physical`` is the physical tile of each logical one. Touches nothing but what it returns.
    """
    verify = None
    if options is not None:
        # 0 is the technology's default on this side of the contract, None on the physics' side.
        verify = ProgramAndVerify(
            margin_microsiemens=options.margin_microsiemens or None, max_iterations=options.max_iterations or None
        )
    tiles = image.tiles()
    programmed: list[ProgrammedTile] = []
    reports: list[outcomes.TileProgramming] = []
    for tile, place in zip(tiles, physical, strict=True):
        if cancelled():
            raise CancelledError(
                f"Programming '{image.name}' was cancelled after {len(programmed)} of {len(tiles)} tiles; the device "
                "is as it was before."
            )
        one, report = _program_tile(image, profile, tile, place, generation, circuits, streams, verify)
        programmed.append(one)
        reports.append(report)
        progress("program", len(programmed), len(tiles))
    return (
        Programmed(image=image, program=program, profile=profile, generation=generation, tiles=tuple(programmed)),
        tuple(reports),
    )


def _program_tile(
    image: ChipImage,
    profile: ChipProfile,
    tile: Tile,
    physical: int,
    generation: int,
    circuits: Circuits,
    streams: Streams,
    options: ProgramAndVerify | None,
) -> tuple[ProgrammedTile, outcomes.TileProgramming]:
    g_max = profile.g_max_microsiemens
    target = image.target(tile)
    faults = circuits.faults_of(physical)
    devices, report = program_tile(
        target, g_max, circuits.technology, streams.programming(generation, physical), options, faults
    )
    gain = offset = None
    if profile.adc_gain_spread or profile.adc_offset_spread_codes:
        gain, offset = converter_spread(
            profile.adc_gain_spread,
            profile.adc_offset_spread_codes,
            profile.tile_columns,
            streams.converters(physical),
        )
        used = tile.groups * tile.columns
        gain, offset = gain[:used], offset[:used]
    levels, mean_square = drive(image, tile)
    probed_gain, probed_offset = faults.converters(gain, offset, tile.groups * tile.columns)
    read, products = streams.baseline(generation, physical)
    baseline = probe(
        *faults.hold(*conductances(devices, 0.0, circuits.technology, read), g_max),
        g_max,
        cell_weights(target),
        circuits.technology,
        dac_levels=levels,
        adc_bits=profile.adc_bits,
        rng=products if circuits.noisy else None,
        gain=probed_gain,
        offset=probed_offset,
        ideal_converters=circuits.converters == "ideal",
    )
    return (
        ProgrammedTile(
            tile=tile,
            physical=physical,
            dac_levels=levels,
            dac_mean_square=mean_square,
            devices=devices,
            baseline=baseline,
            gain=gain,
            offset=offset,
        ),
        outcomes.TileProgramming(
            tile=physical,
            layer=tile.layer,
            converged_fraction=report.converged_fraction,
            rms_error_microsiemens=report.rms_error_microsiemens,
        ),
    )
