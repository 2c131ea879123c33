"""Networks, their weights, labels, preprocessing and layers."""
