"""``pcmedge drift``: how accuracy holds over time, for any image and labelled data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.options import (
    PHYSICS_HELP,
    READ_NOISE_HELP,
    ImagePath,
    Json,
    Precision,
    PrecisionOption,
    ReadNoise,
    comma_separated,
)
from pcmedge.cli.samples import LABEL_NAMES, Part, read_samples
from pcmedge.errors import FileUnwritableError, InputError

if TYPE_CHECKING:
    from rich.table import Table

    from pcmedge.cli.output import Output, ProgressLine, Screen
    from pcmedge.drift import DriftStudy, Summary
    from pcmedge.image import ChipImage


def run(
    image: ImagePath,
    data: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="Labelled data: .npz or .parquet, a folder of pictures per class, or CIFAR-10.",
            show_default=False,
        ),
    ],
    times: Annotated[
        str,
        typer.Option(metavar="T,T,...", help="Ages of the chip, such as 25s,1d,1y.", show_default="nine, 25s to 1y"),
    ] = "25s,5m,1h,8h,1d,7d,30d,120d,1y",
    chips: Annotated[int, typer.Option(min=1, help="How many chips, each of a seed of its own.")] = 5,
    modes: Annotated[
        str, typer.Option(metavar="M,M,...", help="none, gdc, gdc-per-column, adabs, adabs-paired.")
    ] = "none,gdc,adabs-paired",
    realisations: Annotated[int, typer.Option(min=1, help="Read-noise realisations per chip and age.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first chip.")] = 0,
    physics: Annotated[str, typer.Option(metavar="NAME", help=PHYSICS_HELP)] = "pcm-90nm",
    read_noise: Annotated[ReadNoise, typer.Option(metavar="KIND", help=READ_NOISE_HELP)] = ReadNoise.additive,
    precision: PrecisionOption = Precision.exact,
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC|FILE",
            help="What breaks in the field: KIND=RATE/y, KIND=RATE@AGE,... such as dead-column=0.1/y (per tile), "
            "stuck-at-random=0.001@30d (share), or a .json file.",
            show_default="nothing beside what the chip profile expects",
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Also a twin of each chip that is diagnosed at every age and moved off unfit tiles."
        ),
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Take N of them, of every class its share.", show_default="all"),
    ] = None,
    part: Annotated[
        Part | None, typer.Option("--part", help="Of data in two parts.", show_default="test where there is one")
    ] = None,
    label_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the labels in the data.", show_default="labels, label, y, targets, target"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; the result is the same.", show_default="one per CPU")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.", show_default="NAME-drift"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last whole chip of a study that was stopped.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure accuracy over simulated age: chips x times x modes x read-noise realisations.

    Writes drift.parquet (one row per measurement) and drift.png (accuracy over age with the spread over chips). After
    Ctrl-C the chips that were measured whole are kept; the same command with --resume goes on.

    \b
    Examples:
      pcmedge drift model.pcmi --data test.npz
      pcmedge drift model.pcmi --data test.npz --times 25s,1d,1y --chips 10
      pcmedge drift model.pcmi --data test.npz --modes none,gdc,adabs
      pcmedge drift model.pcmi --data test.npz --faults dead-column=0.1/y --repair
      pcmedge drift model.pcmi --data pictures/ --samples 1000
      pcmedge drift model.pcmi --data test.parquet --json | jq .rows
    """
    from pcmedge.cli.output import Output
    from pcmedge.drift import DriftPlan, run_study
    from pcmedge.image import ChipImage

    out = Output(json=json)
    plan = DriftPlan(
        ages_s=comma_separated(times),
        chips=chips,
        first_seed=seed,
        modes=comma_separated(modes),
        realisations=realisations,
        physics=physics,
        read_noise=read_noise.value,
        precision=precision.value,
        faults=faults,
        repair=repair,
    )
    opened = ChipImage.open(image)
    with out.progress("reading") as bar:
        inputs, labels = read_labelled(opened, data, samples, part, label_name, bar)
    folder = output or Path(f"{opened.name}-drift")
    files = {"parquet": folder / "drift.parquet", "png": folder / "drift.png"}
    with _made(folder), _kept(folder / "measured", out, resume=resume) as kept:
        with out.progress(f"ageing {chips} chips") as bar:
            study = run_study(
                opened,
                inputs,
                labels,
                plan=plan,
                workers=workers,
                progress=lambda done, total: bar.update("", done, total),
                keep=kept,
            )
        study.to_parquet(files["parquet"])
        study.plot(files["png"])
    out.result(_document(study, files), lambda console: _draw(console, study, files))


def read_labelled(
    image: ChipImage, path: Path, count: int | None, part: Part | None, label_name: str | None, bar: ProgressLine
) -> tuple[dict[str, Any], Any]:
    """Inputs by name and the index of each one's right score. Raises InputError, and what reading raises."""
    import numpy as np

    from pcmedge.data.cifar10 import has_part

    if part is None and path.is_dir() and has_part(path, "test"):
        part = Part.test
    read = read_samples(
        path,
        image.manifest,
        count=count,
        seed=0,
        part=part,
        bar=bar,
        all_pictures=True,
        label_name=label_name,
    )
    if read.labels is None:
        names = LABEL_NAMES if label_name is None else (label_name,)
        raise InputError(
            f"{path}: expected labels beside the inputs, found none. In a file they are an array named "
            f"{' or '.join(names)}; pictures lie in a folder per class.",
            path=path,
        )
    known = list(image.manifest.application.labels)
    if not known or not read.class_names:
        return read.inputs, read.labels
    if strange := [name for name in read.class_names if name not in known]:
        raise InputError(
            f"{path}: expected classes named as the image's labels ({', '.join(known)}); found {', '.join(strange)}",
            path=path,
        )
    return read.inputs, np.array([known.index(name) for name in read.class_names])[read.labels]


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Made before the long work, so that a folder that cannot be is known at once; gone again if nothing came of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise FileUnwritableError(f"cannot make the folder {folder}: {problem.strerror}", path=folder) from problem
    try:
        yield
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise


@contextmanager
def _kept(folder: Path, out: Output, *, resume: bool) -> Iterator[Path]:
    """Where measured chips lie until the study is whole. Those of an earlier one are used only if that is wanted."""
    if not resume:
        _remove(folder)
    try:
        yield folder
    except BaseException:
        found = len(list(folder.glob("chip-*.json")))
        if not found:
            _remove(folder)
        elif not out.json:
            whole = "chip is" if found == 1 else "chips are"
            out.note(f"{found} measured {whole} kept in {folder}; the same command with --resume goes on after that.")
        raise
    _remove(folder)


def _remove(folder: Path) -> None:
    for path in folder.glob("chip-*.json"):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _document(study: DriftStudy, files: dict[str, Path]) -> dict[str, Any]:
    return {
        "model": study.model,
        "image_sha256": study.image_sha256,
        "data_sha256": study.data_sha256,
        "digital_accuracy": study.digital_accuracy,
        "plan": study.plan,
        "rows": study.summary(),
        "files": files,
    }


def _draw(console: Screen, study: DriftStudy, files: dict[str, Path]) -> None:
    chips = f"mean ± standard error over {study.plan.chips} chips" if study.plan.chips > 1 else "one chip"
    console.say(f"{study.model}: accuracy as the chip ages ({chips})")
    console.print(accuracy_table(study.summary()))
    console.say(f"digital baseline {study.digital_accuracy:.2%}")
    for path in files.values():
        console.say(f"written to {path}")


def accuracy_table(rows: Sequence[Summary]) -> Table:
    """Ages down, modes across."""
    from rich.table import Table

    from pcmedge.durations import format_duration

    modes = list(dict.fromkeys(row.mode for row in rows))
    table = Table(box=None, header_style="dim")
    for title in ("age", *modes):
        table.add_column(title, justify="right")
    cells: dict[float, dict[str, str]] = {}
    for row in rows:
        spread = "" if row.accuracy_stderr is None else f" ± {row.accuracy_stderr * 100:.2f}"
        cells.setdefault(row.age_s, {})[row.mode] = f"{row.accuracy_mean * 100:.2f}{spread} %"
    for age_s, by_mode in cells.items():
        table.add_row(format_duration(age_s), *(by_mode.get(mode, "") for mode in modes))
    return table
