"""What listens: the port, the connections taken there, and a worker's thread for its probes."""
