"""The edges of the disk: finding and decoding images, writing figures and records."""
