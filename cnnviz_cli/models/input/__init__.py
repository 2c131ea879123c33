"""What the network gets of an image."""
