"""The sources of a run: files, folders, archives and URLs."""
