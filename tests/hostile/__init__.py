"""Hostile model files: mutants of small valid files, each judged in a child process with limits.

``python -m tests.hostile`` runs a campaign (see :mod:`.command`); ``tests/test_hostile_files.py`` runs a short one.
"""
