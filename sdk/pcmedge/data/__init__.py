"""Labelled pictures for training and for studies, read from your own disk; nothing is ever downloaded.

::

    from pcmedge.data import load_cifar10, normalise, stratified_split

    train = load_cifar10("data/cifar10", "train")           # uint8 [50000, 32, 32, 3], labels, class names
    kept, held_out = stratified_split(train.labels, 5000)   # indices
    inputs = normalise(train.pictures[kept])                # float32 [45000, 3, 32, 32]

Python batches need nothing but numpy; class folders and Parquet need the ``data`` extra when read, not when imported.
"""

from __future__ import annotations

from pcmedge.data.cifar10 import CIFAR10_CLASSES, CIFAR10_MEAN, CIFAR10_STD, load_cifar10
from pcmedge.data.pictures import LabelledPictures, normalise
from pcmedge.data.samples import PictureSamples, picture_samples
from pcmedge.data.split import stratified_split

__all__ = [
    "CIFAR10_CLASSES",
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "LabelledPictures",
    "PictureSamples",
    "load_cifar10",
    "normalise",
    "picture_samples",
    "stratified_split",
]
