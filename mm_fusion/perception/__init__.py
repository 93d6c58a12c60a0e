"""The perception road: synced sets of raw camera and LIDAR data in, boxes and tracks out."""
