#!/usr/bin/python3
"""Waits until Nova's services have reported that they run, at this time or later: until
then the scheduler sends nothing to them, or what it sends is lost.

reported.py SECONDS
"""

import sys
import time
from datetime import datetime, timezone

import openstack

began = datetime.now(timezone.utc).replace(tzinfo=None)
end = time.monotonic() + int(sys.argv[1])
cloud = openstack.connect()
wanted = {"nova-conductor", "nova-scheduler", "nova-compute"}


def reported(service):
    return service.state == "up" and service.updated_at and datetime.fromisoformat(service.updated_at) >= began


while missing := wanted - {s.binary for s in cloud.compute.services() if reported(s)}:
    if time.monotonic() > end:
        sys.exit(f"{', '.join(sorted(missing))}: not reported within {sys.argv[1]} s")
    time.sleep(1)
