"""Writes keras.onnx beside itself; run with Keras 3 on torch: ``pip install keras onnx onnxscript torch``.

Keras 3.15.1, torch as pinned in the Makefile. Weights are random, batch norm has seen a few batches.
"""

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((12, 12, 1)),
        layers.Conv2D(8, 3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.SeparableConv2D(12, 3, padding="same"),
        layers.BatchNormalization(),
        layers.Activation("relu6"),
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.2),
        layers.Dense(16, activation="gelu"),
        layers.Dense(10, activation="softmax"),
    ]
)
rng = np.random.default_rng(0)
model.compile("sgd", "sparse_categorical_crossentropy")
model.fit(rng.random((64, 12, 12, 1), np.float32), rng.integers(0, 10, 64), epochs=2, verbose=0)
model.export(Path(__file__).with_name("keras.onnx"), format="onnx", verbose=False)
