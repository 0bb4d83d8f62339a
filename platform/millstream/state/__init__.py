"""Where the tables live: three layers over RocksDB, and the checkpoints. The only place that imports RocksDB."""
