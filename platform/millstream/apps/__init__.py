"""Which apps a group has: its functions topic, as workers and doors read and write it."""
