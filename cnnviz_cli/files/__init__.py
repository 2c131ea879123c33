"""The edges of the disk: finding and decoding pictures, writing files and records."""
