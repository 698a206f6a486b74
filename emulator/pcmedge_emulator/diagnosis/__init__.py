"""Built-in self-test of tiles: what healthy cells read at an age, and which readings no healthy tile gives."""

from pcmedge_emulator.diagnosis.healthy import HealthyCells, healthy_cells
from pcmedge_emulator.diagnosis.judge import SCATTERED_TAIL, Limits, Verdict, judge_tile

__all__ = ["SCATTERED_TAIL", "HealthyCells", "Limits", "Verdict", "healthy_cells", "judge_tile"]
