"""The log on Apache Kafka, with confluent-kafka; ``log.py`` is what the rest of the program holds."""
