"""Uploads of files, and deletes of files uploaded before.

Each upload is a new object; its checksum and what the service answered go to the ledger,
from which it is read back after the run. Only objects of this run are deleted.
"""

from harness.load import content
from harness.load.user import FileServiceUser, NothingToSend, operation


class UploadTasks:
    @operation(weight=12)
    def upload(self, call):
        object_id, body = call.workload.new_file()
        kind = content.FILE_TYPE
        return (yield from call.upload(object_id, body, op="upload", content_type=kind))

    @operation(weight=3)
    def delete(self, call):
        stored = call.workload.files.take_for_delete()
        if stored is None:
            raise NothingToSend("no-object")
        return (yield from call.delete(stored))


class UploadUser(UploadTasks, FileServiceUser):
    """Uploads, and one delete for every four of them."""
