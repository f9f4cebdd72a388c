"""Clients of Apache Kafka: a gapless producer, readers with and without a group, topics."""
