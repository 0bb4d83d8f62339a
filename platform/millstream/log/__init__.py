"""The log: named topics of partitions of records with offsets. Bytes in, bytes out; see ``port.py``."""
