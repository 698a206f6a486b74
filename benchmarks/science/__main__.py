"""``python -m benchmarks.science``."""

from __future__ import annotations

import os

# Before numpy is imported, here and in the workers: each of them computes on one thread.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from benchmarks.science.command import main  # noqa: E402

if __name__ == "__main__":
    main()
