"""``python -m pcmedge`` is the command ``pcmedge``."""

from pcmedge.cli.main import main

if __name__ == "__main__":
    main()
