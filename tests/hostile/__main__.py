"""``python -m tests.hostile``: the models of the corpus are written with modules that lie beside this package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hostile.command import main

main()
