"""Reading partitions of Kafka: threads that fetch, readers on the loop."""
