"""``python -m pcmedge_emulator.engine.native``: make the native read-outs, if need be, and say whether they are used.

For the making of a container image, for example; ``pcmedge doctor`` asks the same.
"""

from __future__ import annotations

import json

from pcmedge_emulator.engine.native.library import state

if __name__ == "__main__":
    found = state(wait=True)
    print(json.dumps({"status": found.status, "why": found.why, "library": str(found.library or "")}))
