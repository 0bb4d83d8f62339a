"""What leaves a lane once its record is durable: executions, timers, messages, records, answers."""
