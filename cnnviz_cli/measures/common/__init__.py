"""What several measures share, a file a subject."""
