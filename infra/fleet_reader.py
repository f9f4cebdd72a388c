"""Brings workers' reports to a gateway."""

import logging
import time

from events.codec import Undecodable
from events.workers import decode_report
from gateway.fleet.view import FleetView
from infra.kafka.consumer import Record
from infra.workers_reader import REPORT, WorkersReader

log = logging.getLogger("thalweg.gateway")


async def read_fleet(reader: WorkersReader, fleet: FleetView) -> None:
    """Until it is cancelled. What is no report is passed over."""

    def heard(record: Record) -> None:
        try:
            report = decode_report(record.value)
        except Undecodable as error:
            log.error("a report is passed over", extra={"error": str(error)})
        else:
            fleet.heard(report, time.monotonic())

    await reader.run(REPORT, heard)
