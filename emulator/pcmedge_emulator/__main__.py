"""``python -m pcmedge_emulator`` is ``pcmedge serve``: a device to run where only the emulator matters."""

import sys

from pcmedge.cli.entry import main

if __name__ == "__main__":
    main(["serve", *sys.argv[1:]])
