"""What stands on Kafka, described for others: JSON Schemas and an AsyncAPI document, generated
from the event classes. `python -m infra.schemas` writes them into docs/; a test holds them true.
"""
