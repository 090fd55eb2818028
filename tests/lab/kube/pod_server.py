"""The smallest pod: says who it is over HTTP; ``/exit`` ends it, ``/unready`` fails its probe."""

import os
import socket
import sys

listener = socket.create_server((os.environ["POD_IP"], int(os.environ["PORT"])), backlog=64)
sys.stdout.write("pod {POD_NAME} version {VERSION} listens\n".format(**os.environ))
sys.stdout.flush()
ready = True
while True:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(2)
        try:
            path = connection.recv(4096).split(b" ", 2)[1]
        except (OSError, IndexError):
            continue
        if path == b"/exit":
            sys.exit(3)
        if path == b"/unready":
            ready = False
        status = b"200 OK" if ready or path != b"/ready" else b"503 Unavailable"
        body = os.environ["VERSION"].encode()
        head = b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n" % len(body)
        connection.sendall(head + b"Connection: close\r\n\r\n" + body)
