"""Serve the digital chip: python examples/hardware_driver/serve.py [--listen ADDRESS] [--store FOLDER]"""

from __future__ import annotations

import argparse

from digital_chip import DigitalChip
from pcmedge_emulator.driver import DrivenChip
from pcmedge_emulator.service import serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:7390", help="host:port or unix:///path")
    parser.add_argument("--store", help="a folder for what survives a power cut")
    options = parser.parse_args()
    with DrivenChip(DigitalChip(), store=options.store) as chip, serve(chip, options.listen) as server:
        print(f"listening on {server.address}", flush=True)
        server.wait()


if __name__ == "__main__":
    main()
