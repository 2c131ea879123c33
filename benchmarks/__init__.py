"""Speed and memory, as ratios in one run on one machine with the peer beside. `make bench` runs them all."""
