"""Opening a chip image: hashes first, parsers second, copies never."""

from __future__ import annotations

import importlib.util
import mmap
import os
import stat
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcmedge._contract.image_pb2 import Manifest, Segment, SignatureBlock
from pcmedge.errors import FileMissingError, InputValueError
from pcmedge.image import tables
from pcmedge.image.files import write_atomically
from pcmedge.image.format import HEADER_LENGTH, Bytes, Header, corrupt, sha256
from pcmedge.image.manifest import BUFFER, COLUMNS, PROGRAM, REFERENCE, STATISTICS, TARGETS, TILES
from pcmedge.image.manifest_checks import parse_manifest
from pcmedge.image.placement import Tile, check_tiles
from pcmedge.image.report import Check, VerifyReport
from pcmedge.image.signature import parse_signatures
from pcmedge.image.synthetic import buffer_from_manifest
from pcmedge.image.targets import Targets, decode, impossible

Floats = NDArray[np.float32]
Array = NDArray[Any]


class ChipImage:
    """A chip image, in memory or mapped from a file; immutable.

    ``ChipImage.open("model.pcmi")`` checks every byte against the hashes before any parser sees one. With
    ``verify=False`` only header, manifest and signature block are checked at once (well under a millisecond for any
    size) and every segment and tile when it is first used, so unverified bytes are never parsed either way.

    Equal if all bytes are equal. Can be pickled. Arrays and buffers handed out are read-only views.
    """

    def __init__(self, data: memoryview, *, path: Path | None, verify: bool) -> None:
        self._data = data
        self.path = path
        """Where the image was opened from; None if it was not a file."""
        self.header = Header.unpack(data)
        self._signature_block = self.header.signatures_in(data)
        self.manifest: Manifest = parse_manifest(self.header.manifest_in(data), self.header)
        self._segments: dict[str, Segment] = {segment.name: segment for segment in self.manifest.segments}
        self._intact: set[str] = set()
        self._intact_tiles: set[tuple[int, int, bytes]] = set()
        self._cache: dict[str, Any] = {}
        if verify:
            self._verify_bytes()

    @classmethod
    def open(cls, path: str | PathLike[str], *, verify: bool = True) -> ChipImage:
        """Map an image file into memory.

        Raises FileMissingError if there is no such (readable, regular) file, ImageCorruptError if it is not an intact
        image (``metadata["check"]`` names the check), ImageFeatureError if it needs a newer reader. The file may be
        replaced afterwards (``save`` does so atomically) but must not be changed in place.
        """
        file = Path(path)
        try:
            if not stat.S_ISREG(os.stat(file).st_mode):
                raise FileMissingError(f"{file} is not a regular file; expected a .pcmi chip image", path=file)
            with file.open("rb") as handle:
                if os.fstat(handle.fileno()).st_size == 0:
                    raise corrupt("truncated", f"{file} is empty", path=file)
                mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise FileMissingError(f"there is no chip image {file}", path=file) from None
        except OSError as error:
            raise FileMissingError(f"cannot read chip image {file}: {error.strerror}", path=file) from error
        return cls(memoryview(mapped), path=file, verify=verify)

    @classmethod
    def from_bytes(cls, data: Bytes, *, verify: bool = True) -> ChipImage:
        """An image from bytes in memory (copied only if they could change). Errors as ``open``."""
        view = memoryview(data).cast("B")
        if not view.readonly:
            view = memoryview(bytes(view))
        return cls(view, path=None, verify=verify)

    @property
    def name(self) -> str:
        """Name the model is served under."""
        return self.manifest.model.name

    @property
    def version(self) -> int:
        """Version of the model, larger for later ones."""
        return self.manifest.model.version

    @property
    def size(self) -> int:
        """Length of the image in bytes."""
        return len(self._data)

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the whole file, 32 bytes."""
        digest: bytes = self._cached("sha256", lambda: sha256(self._data))
        return digest

    @property
    def manifest_sha256(self) -> bytes:
        """SHA-256 of the manifest, 32 bytes: what signatures sign."""
        return self.header.manifest_sha256

    @property
    def signatures(self) -> SignatureBlock:
        """The signatures in the image; parsed, not verified against any key. ImageCorruptError if unparsable."""
        return parse_signatures(self._signature_block)

    def to_bytes(self) -> bytes:
        return bytes(self._data)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the image atomically (temporary file, fsync, rename). Raises FileUnwritableError."""
        write_atomically(path, self._data)

    def segment(self, name: str) -> memoryview:
        """The bytes of a segment, read-only, checked against their SHA-256. InputValueError for an unknown name."""
        if name not in self._segments:
            raise InputValueError(f"no segment {name!r}; this image has {', '.join(self._segments)}", segment=name)
        segment = self._segments[name]
        data = self._data[segment.offset : segment.offset + segment.length]
        if name not in self._intact:
            if sha256(data) != segment.sha256:
                raise corrupt("segment-sha256", f"segment {name!r} does not match its SHA-256", segment=name)
            self._intact.add(name)
        return data

    def program(self) -> bytes:
        """The program, a serialized ONNX ModelProto."""
        return bytes(self.segment(PROGRAM))

    def tiles(self) -> tuple[Tile, ...]:
        """All tiles in order, consistent with the layers: inside the segment, every weight exactly once.

        Raises ImageCorruptError, and MissingExtraError without pyarrow, as do the other tables.
        """
        tiles: tuple[Tile, ...] = self._cached(TILES, self._read_tiles)
        return tiles

    def target(self, tile: Tile) -> Targets:
        """Target of a tile as stored, [groups, rows, columns], a view of the image.

        int16 codes with g = target / 32767 in [-1, 1], or float32 g (``pcmedge.compile(targets="float32")``). The
        tile's bytes are checked against ``tile.sha256``, its values against that range, the first time. Needs no
        pyarrow if you know the tile. Raises ImageCorruptError (``tile-sha256``, ``tile-values``) and InputValueError
        for a tile of another image.
        """
        segment, dtype = self._segments[TARGETS], self._target_dtype
        last = segment.length - tile.length
        if tile.length != dtype.itemsize * tile.cells or not 0 <= tile.offset <= last or tile.offset % dtype.itemsize:
            raise InputValueError(f"tile {tile.tile} is not one of this image; take it from tiles()", tile=tile.tile)
        start = segment.offset + tile.offset
        data = self._data[start : start + tile.length]
        key = (tile.offset, tile.length, tile.sha256)
        target: Targets = np.frombuffer(data, dtype=dtype).reshape(tile.shape)
        if key not in self._intact_tiles:
            if sha256(data) != tile.sha256:
                raise corrupt("tile-sha256", f"tile {tile.tile} does not match its SHA-256", tile=tile.tile)
            if wrong := impossible(target):
                raise corrupt("tile-values", f"tile {tile.tile} has the target {wrong}", tile=tile.tile)
            self._intact_tiles.add(key)
        return target

    def normalised_target(self, tile: Tile) -> Floats:
        """Target of a tile as g in [-1, 1], float32 [groups, rows, columns], however it is stored. As ``target``."""
        return decode(self.target(tile))

    @property
    def _target_dtype(self) -> np.dtype[Any]:
        return np.dtype(self._segments[TARGETS].dtype)

    def weight_scales(self) -> dict[tuple[str, str], Floats]:
        """{(layer, block): weight_scale of each column, float32 [groups * columns]}; W = g * weight_scale."""
        return dict(self._cached(COLUMNS, lambda: tables.read_weight_scales(self.segment(COLUMNS), self.manifest)))

    def reference_statistics(self) -> dict[str, tuple[Floats, Floats]]:
        """{BatchNormalization node: (mean, population variance)}, float32 [channels] each.

        Statistics of the node's input in the digital model over exactly the calibration buffer.
        """
        return {node: (mean, variance) for node, (_, mean, variance) in self._statistics().items()}

    def calibration_buffer(self) -> dict[str, Array]:
        """{model input: samples [n, ...]}; a synthetic buffer is made from its seed, no buffer is an empty dict."""
        kind = self.manifest.calibration_buffer.kind
        if kind == "none":
            return {}
        return dict(self._cached(BUFFER, self._read_buffer if kind == "stored" else self._make_buffer))

    def reference_set(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Reference inputs and the digital model's outputs for them: ({input: [n, ...]}, {output: [n, ...]})."""
        found = self._cached(
            REFERENCE, lambda: tables.read_sample_table(self.segment(REFERENCE), REFERENCE, self.manifest)
        )
        model = self.manifest.model
        inputs = {spec.name: found[f"input:{spec.name}"] for spec in model.inputs}
        return inputs, {spec.name: found[f"output:{spec.name}"] for spec in model.outputs}

    def verify(self) -> VerifyReport:
        """Check every byte and everything the image says about itself; raises ImageCorruptError at the first fault.

        The contents of tables need pyarrow, those of the program onnx; without them these checks are "skipped".
        """
        checks = [
            Check("header", "passed", f"{HEADER_LENGTH} bytes, file length {self.size}"),
            Check("manifest", "passed", f"{self.header.manifest_length} bytes, SHA-256 and contents"),
            Check("signature block", "passed", f"{len(self._signature_block)} bytes, SHA-256; no key was asked"),
        ]
        self._verify_bytes()
        checks.append(Check("padding", "passed", "all zero"))
        checks += [Check(f"segment {n}", "passed", f"{s.length} bytes, SHA-256") for n, s in self._segments.items()]
        checks.append(self._if_installed("tables", "pyarrow", self._verify_tables))
        checks.append(self._if_installed("program", "onnx", self._verify_program))
        return VerifyReport(tuple(checks))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChipImage):
            return NotImplemented
        return self.header == other.header and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.header)

    def __reduce__(self) -> tuple[object, ...]:
        return (ChipImage.from_bytes, (self.to_bytes(),))

    def __repr__(self) -> str:
        return (
            f"<ChipImage {self.name} version {self.version}, {len(self.manifest.layers)} analog layers, "
            f"profile {self.manifest.profile.name}, {self.size} bytes>"
        )

    def _cached(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def _read_tiles(self) -> tuple[Tile, ...]:
        tiles = tables.read_tiles(self.segment(TILES))
        check_tiles(tiles, self.manifest, self._segments[TARGETS].length, self._target_dtype.itemsize)
        return tiles

    def _statistics(self) -> dict[str, tuple[str, Floats, Floats]]:
        found: dict[str, tuple[str, Floats, Floats]] = self._cached(
            STATISTICS, lambda: tables.read_statistics(self.segment(STATISTICS), self.manifest)
        )
        return found

    def _read_buffer(self) -> dict[str, Array]:
        buffer = tables.read_sample_table(self.segment(BUFFER), BUFFER, self.manifest)
        samples = self.manifest.calibration_buffer.samples
        if any(len(array) != samples for array in buffer.values()):
            raise corrupt("table-values", f"the table 'buffer' does not have the manifest's {samples} samples")
        return buffer

    def _make_buffer(self) -> dict[str, Array]:
        return buffer_from_manifest(self.manifest)

    def _verify_bytes(self) -> None:
        position = HEADER_LENGTH + self.header.manifest_length
        for name, segment in self._segments.items():
            self._check_padding(position, segment.offset)
            self._intact.discard(name)
            self.segment(name)
            position = segment.offset + segment.length
        self._check_padding(position, self.header.signature_offset)

    def _check_padding(self, start: int, stop: int) -> None:
        if any(self._data[start:stop]):
            raise corrupt("padding", f"bytes {start} to {stop - 1} are padding, but not all zero", offset=start)

    def _if_installed(self, name: str, package: str, check: Callable[[], str]) -> Check:
        if importlib.util.find_spec(package) is None:
            return Check(name, "skipped", f"needs {package}: pip install 'pcmedge[emulator]'")
        return Check(name, "passed", check())

    def _verify_tables(self) -> str:
        self._cache.clear()
        end = 0
        targets = self.segment(TARGETS)
        for tile in self.tiles():
            if any(targets[end : tile.offset]):
                raise corrupt("tile-offset", f"bytes before tile {tile.tile} are padding, but not zero", tile=tile.tile)
            self.target(tile)
            end = tile.offset + tile.length
        self.weight_scales()
        self._statistics()
        if self.manifest.calibration_buffer.kind == "stored":
            self.calibration_buffer()
        self.reference_set()
        return f"{len(self.tiles())} tiles cover {len(self.manifest.layers)} layers; scales, statistics, samples"

    def _verify_program(self) -> str:
        from pcmedge.image.program import load_program

        return f"{len(load_program(self).graph.node)} ONNX nodes, consistent with the manifest"
