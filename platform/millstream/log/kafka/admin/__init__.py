"""Asking a Kafka about itself, and making its topics what a group needs."""
