"""What commands share: flags, exit codes, output, input, serving, how to reach a server or a Kafka."""
