"""The usual day: mostly downloads, then images, uploads, listings and a few deletes.

The shares are the weights here, in download.py, upload.py and image.py; a plan's ``mix``
or ``--mix download=64,upload=12,…`` replaces them. Try it alone::

    locust -f locustfiles/mixed.py --host http://localhost:8080 --headless --rate 50 -t 30s
"""

from download import DownloadTasks
from image import ImageTasks
from upload import UploadTasks

from harness.load import checks
from harness.load.user import FileServiceUser, operation


class MixedUser(DownloadTasks, UploadTasks, ImageTasks, FileServiceUser):
    @operation(weight=6)
    def list(self, call):
        answer = yield from call.get("/v1/files", limit=20, prefix=call.workload.prefix)
        call.saw(checks.listed(answer))
        return checks.listing(answer)
