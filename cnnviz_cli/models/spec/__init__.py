"""What ``--model`` and ``--weights`` say, before torch is imported."""
