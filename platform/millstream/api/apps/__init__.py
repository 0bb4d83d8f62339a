"""Apps over HTTP: how they register, how they are found and kept in step, and why one cannot be reached."""
