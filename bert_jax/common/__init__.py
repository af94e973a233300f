"""What every package may use: errors, console output, atomic writes, command-line plumbing."""
