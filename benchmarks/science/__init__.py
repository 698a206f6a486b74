"""The published experiment, again: ResNet-32 on CIFAR-10 in phase-change memory (Joshi et al. 2020).

::

    python -m benchmarks.science --data PATH --part test --first-chip 100

measures whatever is not measured yet, and writes one Parquet file per experiment, a page with tables and the paper's
figures redrawn. README.md beside this file tells what each experiment is and what it costs.
"""
