"""Labelled frames to learn from: one file format, and what is read into it. No torch, no ROS."""
