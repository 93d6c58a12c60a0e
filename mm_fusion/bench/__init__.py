"""Measurements that decide, each beside the usual way of doing the same, in one run."""
