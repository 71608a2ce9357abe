"""What each function does, under the function's name."""
