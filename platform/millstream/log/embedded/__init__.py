"""The log on one machine: an SQLite file, one writing process, any number of readers."""
