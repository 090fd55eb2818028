"""Downloads: most ask for a whole file, some whether it changed, some for a part of it.

Every body is checked against what was uploaded: by checksum, or, for a part, byte for
byte against the content made again from its seed.
"""

from harness.load import checks, content
from harness.load.user import KEEP, FileServiceUser, NothingToSend, operation

CONDITIONAL = 0.15  # of the downloads: a browser or cache that has the file already
RANGE = 0.10  # of the downloads: a player that seeks, or a download that is resumed


class DownloadTasks:
    @operation(weight=70)
    def download(self, call):
        stored = call.workload.files.popular()
        if stored is None:
            raise NothingToSend("no-object")
        kind = call.random.random()
        if kind < CONDITIONAL and stored.etag:
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
    whole = content.file_bytes(call.workload.settings.seed, stored.object_id, last + 1)
    exchange = yield from call.get_file(stored, {"Range": f"bytes={first}-{last}"}, take=KEEP)
    return checks.part(
        exchange,
        expected=whole[first:],
        first=first,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
    )


class DownloadUser(DownloadTasks, FileServiceUser):
    """Only downloads."""
