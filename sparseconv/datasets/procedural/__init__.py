"""Scenes made by rule: rooms seen by a depth camera, streets seen by a spinning LiDAR."""
