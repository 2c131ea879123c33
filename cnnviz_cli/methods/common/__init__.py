"""What several methods are made with. Imports core only."""
