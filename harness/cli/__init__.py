"""The command line: the verbs, and the only place that prints and exits.

Heavy packages (boto3, kubernetes, locust, rich) are imported by the verb that needs
them, so that ``harness --help`` is instant.
"""

from __future__ import annotations

import signal
import sys

import click

from harness import __version__
from harness.cli import history, lab, runs, selftest
from harness.cli.streams import outlive_readers
from harness.errors import EXIT_STATUS_MEANING, ExitStatus, HarnessError

_EPILOG = "\b\nExit status:\n" + "\n".join(
    f"  {int(status):>3}  {meaning}" for status, meaning in EXIT_STATUS_MEANING.items()
)


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harness")
def cli() -> None:
    """Load and chaos testing whose verdict can be trusted.

    A game day sends traffic at a service, breaks parts of it on purpose, undoes that, and
    says with evidence whether the promises held: pass, fail or unknown.
    """


for command in (
    runs.run,
    runs.check,
    runs.approve,
    runs.experiment,
    runs.load,
    runs.judge,
    runs.report,
    runs.recover,
    history.history,
    lab.lab,
    selftest.selftest,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit with a status of :class:`harness.errors.ExitStatus`."""
    outlive_readers()
    _hear_signals()
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        status = ExitStatus.STOPPED
    except click.ClickException as error:
        error.show()
        status = ExitStatus.USAGE
    except KeyboardInterrupt:
        status = ExitStatus.STOPPED
    except HarnessError as error:
        click.echo(f"harness: {error}", err=True)
        status = error.exit_status
    sys.exit(int(status or 0))


def _hear_signals() -> None:
    """From the first moment on a signal ends the command; a run brings its own order into that.

    However it was started: a shell makes what it puts into its background deaf to SIGINT, and
    the first process of a container is deaf to all that it does not ask for. Only who says nohup
    means it.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
