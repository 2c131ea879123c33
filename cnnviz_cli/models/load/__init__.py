"""Networks built, and files of weights loaded into them."""
