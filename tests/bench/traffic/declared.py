"""Declared requests on the open-loop user: tallies folded, or every request told (``event``)."""

from __future__ import annotations

import os

from harness.load.user import OpenLoopUser, get, put
from harness.load.wire.upload import from_bytes
from tests.bench.traffic import told
from tests.bench.workloads import WORKLOADS

_MAKE = {"GET": get, "PUT": put}

Site = type(
    "Site",
    (OpenLoopUser,),
    {
        request.name: _MAKE[request.method](
            request.path,
            weight=share,
            length=request.answer_bytes,
            body=from_bytes(b"z" * request.body_bytes) if request.body_bytes else None,
        )
        for request, share in WORKLOADS[os.environ["BENCH_WORKLOAD"]].items()
    },
)

told.at_the_end()
if os.environ.get("BENCH_LISTEN"):
    # The engine has checked status and length; what it found is in the exception.
    told.listen(lambda name, length, response: True)
