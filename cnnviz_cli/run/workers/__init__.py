"""Processes that load and draw images while the network computes."""
