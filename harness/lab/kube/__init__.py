"""A Kubernetes cluster in one event loop: API server, controllers, scheduler and kubelets.

Pods are real processes; everything else is as ``kubectl`` and the Kubernetes
clients expect it. Start with :class:`harness.lab.kube.cluster.Cluster`.

    api ──► registry ──► store ──► controllers ──► registry …
     │                     └─────► kubelet ──► runner ──► process
     └── watch, logs, exec
"""
