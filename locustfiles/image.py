"""Images: pages ask for resized variants of pictures, and now and then one is uploaded.

A variant is right when it is a whole JPEG of the width asked for.
"""

from harness.load import checks, content
from harness.load.user import FileServiceUser, NothingToSend, operation

WIDTHS = (160, 320, 480)  # thumbnail, phone, tablet: a site asks for a few fixed widths


class ImageTasks:
    @operation(weight=15)
    def image(self, call):
        stored = call.workload.images.popular()
        if stored is None:
            raise NothingToSend("no-object")
        width = call.random.choice(WIDTHS)
        return checks.picture((yield from call.get_variant(stored, width)), width=width)

    @operation(weight=0.5)
    def image_upload(self, call):
        object_id, body = call.workload.new_image()
        kind = content.IMAGE_TYPE
        return (yield from call.upload(object_id, body, op="image", content_type=kind))


class ImageUser(ImageTasks, FileServiceUser):
    """Only images."""
