"""What lasts: log files with their index and marks, state, what people read, on whatever disk."""
