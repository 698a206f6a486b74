"""One of several applications on one device: ``python sharing.py ADDRESS ROLE ROUNDS``.

"programs" puts another version of model "shared" there under a lease, ROUNDS times; everybody else asks the model of
that name until a line arrives on stdin. Prints what it saw as one JSON document.
"""

from __future__ import annotations

import json
import select
import sys

import numpy as np
import pcmedge
from pcmedge.device import Mutation
from pcmedge.errors import LeaseHeldError

address, role, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
X = np.full((2, 1, 6, 6), 0.5, np.float32)
with pcmedge.connect(address) as device:
    if role == "programs":
        lease = device.acquire_lease("updater", duration_s=600)
        print("leased", flush=True)
        sys.stdin.readline()
        for number in range(rounds):
            device.program(sys.argv[4 + number % 2], mutation=Mutation(lease_id=lease.lease_id))
        device.release_lease(lease)
        print(json.dumps({"programmed": rounds}))
    else:
        refused = ""
        try:
            device.deactivate(role)
        except LeaseHeldError as error:
            refused = error.metadata["holder"]
        answers: dict[str, int] = {}
        print("asking", flush=True)
        while True:
            result = device.infer_detailed(X, model=role)
            key = f"{result.program_generation} {np.round(next(iter(result.outputs.values())), 4).tolist()}"
            answers[key] = answers.get(key, 0) + 1
            if select.select([sys.stdin], [], [], 0)[0]:
                break
        print(json.dumps({"answers": answers, "refused": refused}))
