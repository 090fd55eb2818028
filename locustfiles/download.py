"""Downloads: most ask for a whole file, some whether it changed, some for a part of it.

Of a share of them (``verify``) every byte is checked against what was uploaded: by
checksum, or, for a part, against the content made again from its seed. Of the others the
status, length and headers are.
"""

from harness.load import checks, content
from harness.load.user import DROP, KEEP, FileServiceUser, NothingToSend, operation

CONDITIONAL = 0.5  # of what a user looks at again: it has the file already, and asks if it changed
RANGE = 0.10  # of the downloads: a player that seeks, or a download that is resumed


class DownloadTasks:
    @operation(weight=70)
    def download(self, call):
        stored, again = call.file()
        if stored is None:
            raise NothingToSend("no-object")
        kind = call.random.random()
        if again and stored.etag and kind < CONDITIONAL:
            return (yield from if_changed(call, stored))
        if kind > 1 - RANGE and stored.size_bytes > 1:
            return (yield from some_of_it(call, stored))
        exchange = yield from call.get_file(stored)
        return checks.whole_file(exchange, sha256=stored.sha256, size_bytes=stored.size_bytes)


def if_changed(call, stored):
    exchange = yield from call.get_file(stored, {"If-None-Match": stored.etag})
    return checks.unchanged_or_whole(exchange, sha256=stored.sha256, size_bytes=stored.size_bytes)


def some_of_it(call, stored):
    first = call.random.randrange(stored.size_bytes)
    last = call.random.randrange(first, stored.size_bytes)
    expected, take = b"", DROP
    if call.verifies():
        seed = call.workload.settings.seed
        expected, take = content.file_bytes(seed, stored.object_id, last + 1)[first:], KEEP
    exchange = yield from call.get_file(stored, {"Range": f"bytes={first}-{last}"}, take=take)
    return checks.part(
        exchange,
        first=first,
        last=last,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        expected=expected,
    )


class DownloadUser(DownloadTasks, FileServiceUser):
    """Only downloads."""
