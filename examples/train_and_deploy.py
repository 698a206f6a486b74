"""Your own network, end to end: train with noise, compile, program, age a year, heal. About 20 s on two cores.

pip install 'pcmedge[train]'
python examples/train_and_deploy.py
"""

import numpy as np
import pcmedge
import torch
from pcmedge.demo.digits import load_digits
from torch import nn

digits = load_digits()
torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1, bias=False),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(32 * 4 * 4, 10),
)

# 1. Train with the noise the devices will have: two calls around your own loop.
noise = pcmedge.noise_aware(model, eta=0.038, clip_sigma=2.5)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
pictures, labels = torch.from_numpy(digits.train.tensors), torch.from_numpy(digits.train.labels.astype(np.int64))
for _epoch in range(15):
    for batch in torch.randperm(len(labels)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(pictures[batch]), labels[batch]).backward()
        optimizer.step()
        noise.clip()
noise.remove()

# 2. Compile for the chip: placement, converter ranges and reference statistics come from the calibration samples.
image = pcmedge.compile(
    model, digits.train.tensors[:1], calibration=digits.train.tensors, name="my-digits", labels=list("0123456789")
)
image.save("my-digits.pcmi")

# 3. Program a device and let a year pass. A manual clock moves only when told to.
device = pcmedge.Emulator("my-digits.pcmi", physics="pcm-90nm", seed=1, clock="manual")
device.set_policy("manual")


def accuracy() -> float:
    return float(np.mean(device.infer(digits.test.tensors).argmax(axis=1) == digits.test.labels))


print(f"programmed            {accuracy():.1%}")
device.lab.advance("1y")
print(f"after a year          {accuracy():.1%}")
device.recalibrate()
print(f"after recalibration   {accuracy():.1%}")
