"""What people have marked in images: boxes, polygons, masks."""
