"""Uploads of files, and deletes of files uploaded before.

Each upload is a new object; its checksum and what the service answered go to the ledger,
from which it is read back after the run. Only objects of this run are deleted.
"""

from harness.load import content
from harness.load.user import OpenLoopUser, operation
from harness.load.workload import NothingToSend


class UploadTasks:
    @operation(weight=12)
    def upload(self, call):
        object_id, body = call.workload.new_file()
        return call.upload(object_id, body, op="upload", content_type=content.FILE_TYPE)

    @operation(weight=3)
    def delete(self, call):
        stored = call.workload.files.take_for_delete()
        if stored is None:
            raise NothingToSend("no-object")
        return call.delete(stored)


class UploadUser(UploadTasks, OpenLoopUser):
    """Uploads, and one delete for every four of them."""
