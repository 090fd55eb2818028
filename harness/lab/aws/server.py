"""The AWS API as a process: ``python -m harness.lab.aws.server --host H --port P --seed FILE``.

Listens only once the account is built, so a connection that is accepted finds it ready.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from harness.clock import SystemClock
from harness.lab.aws.seed import SeedConfig

#: moto reads these when it is imported: leave out what costs start-up time and memory,
#: and what would reach for the network or the disk.
MOTO_ENVIRONMENT = {
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
    "MOTO_DISABLE_GLOBAL_CORS": "true",
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "false",
}


def command(host: str, port: int, seed: Path) -> list[str]:
    """Command line that starts the server; give it to ``harness.lab.proc.spawn``."""
    module = "harness.lab.aws.server"
    return [sys.executable, "-m", module, "--host", host, "--port", str(port), "--seed", str(seed)]


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="harness.lab.aws.server", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=Path, required=True)
    options = parser.parse_args(argv)
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, _leave)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    os.environ.update(MOTO_ENVIRONMENT)
    serve(options.host, options.port, SeedConfig.read(options.seed))


def serve(host: str, port: int, config: SeedConfig) -> None:
    """Build the account, then listen; does not return."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    from harness.lab.aws.app import AwsApp

    app = AwsApp(config, SystemClock())
    make_server(host, port, app, threaded=True, request_handler=MotoRequestHandler).serve_forever()


def _leave(_signum: int, _frame: FrameType | None) -> None:
    # Nothing here outlives the process, and requests in flight may be long polls.
    os._exit(0)


if __name__ == "__main__":
    main()
