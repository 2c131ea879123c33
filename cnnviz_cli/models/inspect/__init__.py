"""What a network is, found out by running it."""
