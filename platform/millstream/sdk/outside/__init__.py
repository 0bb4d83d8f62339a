"""What programs outside of runs use: a client, and records for a producer of their own."""
