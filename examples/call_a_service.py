"""The emulator as a service, called by URL: the same lines will call silicon.

pcmedge compile ... -o my-digits.pcmi                    # or examples/train_and_deploy.py, which writes one
pcmedge serve my-digits.pcmi --listen 127.0.0.1:7390 --store ./pcm0
PCMEDGE_DEVICE=grpc://127.0.0.1:7390 python examples/call_a_service.py
"""

import pcmedge
from pcmedge.demo.digits import load_digits

test = load_digits().test

with pcmedge.connect() as device:  # $PCMEDGE_DEVICE
    identity = device.identity()
    print(f"{identity.product} {identity.serial}, emulated: {identity.emulated}")

    result = device.infer_detailed(test.tensors[:1])
    print(f"scores at age {result.age_s:.0f} s, statistics generation {result.statistics_generation}, ", end="")
    print(f"read noise {'on' if result.noise else 'off'}")

    # A camera's loop: results come back in order, several requests are on their way at once.
    frames = (test.tensors[index : index + 1] for index in range(len(test)))
    right = sum(
        int(scores.argmax() == label) for scores, label in zip(device.infer_stream(frames), test.labels, strict=True)
    )
    print(f"{right} of {len(test)} digits right")
    print(f"self-test agreement {device.self_test().agreement:.0%}")
