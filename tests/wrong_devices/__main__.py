"""``python -m tests.wrong_devices``: the package is imported by the name it has beside the tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    from wrong_devices.command import main

    main()
