"""The pure core: what is decided, what it changes, what is owed. No clock, no chance, no I/O."""
