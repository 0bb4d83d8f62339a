"""The log in memory, with faults on demand: for users' tests and for the simulation."""
