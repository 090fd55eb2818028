"""Images: pages ask for resized variants of pictures, and now and then one is uploaded.

A page shows thumbnails; who looks at a picture again opens the next larger variant. A variant
is right when it is a whole JPEG of the width asked for, and not one that was served for another
picture; of those not looked at (``verify``), when its head says that it is a JPEG. What the service
declares to be less than that (``X-Degraded``) is counted as degraded.
"""

from harness.load import content
from harness.load.user import FileServiceUser, NothingToSend, operation

WIDTHS = (160, 320, 480)  # thumbnail, phone, tablet: a site asks for a few fixed widths
FIRST_LOOK = (6, 3, 1)  # how often a user who has not seen the picture asks for each


class ImageTasks:
    @operation(weight=15)
    def image(self, call):
        stored, again = call.picture()
        if stored is None:
            raise NothingToSend("no-object")
        if again:
            width = next((w for w in WIDTHS if w > call.visitor.width), WIDTHS[-1])
        else:
            width = call.random.choices(WIDTHS, FIRST_LOOK)[0]
        call.visitor.width = width
        answer = yield from call.get_variant(stored, width)
        return call.check_picture(answer, stored, width)

    @operation(weight=0.5)
    def image_upload(self, call):
        object_id, body = call.workload.new_image()
        kind = content.IMAGE_TYPE
        return (yield from call.upload(object_id, body, op="image", content_type=kind))


class ImageUser(ImageTasks, FileServiceUser):
    """Only images."""
