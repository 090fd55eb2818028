"""The file service of the lab: six small services, each a raw ASGI application.

``run.serve(app)`` is what a pod's process runs. The services find each other by
the headless-service names of their cluster and share the small clients beside
them (``dns``, ``client``, ``database``, ``cache``, ``events``).
"""
