"""How a function is written: apps, contexts, step tools, the client. Imports neither Kafka nor RocksDB."""
