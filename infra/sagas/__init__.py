"""The role `sagas`: runs what sagas/ decides, on Kafka, Postgres and the event stores."""
