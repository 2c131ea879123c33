"""Top images: for each channel of some layers the images of a folder that excite it most (Zeiler & Fergus, 2013)."""
