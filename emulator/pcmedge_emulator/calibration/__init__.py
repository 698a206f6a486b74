"""What a device does against drift: measure (gdc, adabs), propose, judge (guard), and when (policy)."""
