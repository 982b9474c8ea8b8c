"""Runs arms x seeds, collects what they found, and writes the report."""
