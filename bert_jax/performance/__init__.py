"""What a training step costs: measured on this machine's devices, or predicted for others."""
