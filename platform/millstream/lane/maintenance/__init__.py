"""What goes on beside a lane's turns: flushes, checkpoints, trims, offsets for monitoring, the clock."""
