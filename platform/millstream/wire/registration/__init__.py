"""Apps over HTTP as they register themselves, read as the engine knows apps."""
