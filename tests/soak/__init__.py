"""Long runs; each has a short form in the test suite."""
