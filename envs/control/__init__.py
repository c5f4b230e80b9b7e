"""Task-space control of the arm."""
