"""Counts, times and modes: what diagnostics and summaries are made of."""
