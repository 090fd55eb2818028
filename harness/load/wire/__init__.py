"""An HTTP/1.1 client made for load: many connections, few microseconds, no surprises.

A general client spends most of a small request on things a load generator does not
need: building and parsing objects, copying bodies, waking a thread per answer. Here a
request is bytes, an answer is read into one shared buffer, a body nobody looks at is
dropped inside the kernel, and all sockets share one event set.

::

    message   bytes of a request, head of an answer, chunks (pure: no socket, no clock)
    upload    a body that is sent without copying it
    poller    one event set for all sockets, inside gevent's loop; deadlines
    connection   one socket and what it is in the middle of
    origin    the connections to one service: DNS, age, how many
    client    requests for code that waits (greenlets)

Every way a server can misbehave ends as an outcome with a name (:data:`message.ERRORS`).
"""
