"""The same explanations from Python: arguments, images, network, results."""
