"""Image files decoded: pixel values, bands and region masks."""
