"""One short file a method. Importing this package registers them all."""
