"""``python -m pcmedge`` is the command ``pcmedge``."""

from pcmedge.cli.entry import main

if __name__ == "__main__":
    main()
