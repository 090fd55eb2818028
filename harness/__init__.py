"""harness: load and chaos testing whose verdict can be trusted.

::

     plan ───────► run ───────────────► evidence ───────► verdict ───────► report
     what will     load   (Locust)      what was seen,    what it means:   how it is told:
     be done and   chaos  (Chaos        one ordered       pass, fail or    terminal, HTML, JUnit,
     what must     Toolkit)             history on disk   unknown (pure)   Markdown
     hold          watch  (Prometheus,
                   Kubernetes, DNS …)
                     │
                     ▼
              the target: EKS + AWS + Prometheus, or the lab — the same APIs on loopback

The folders follow the arrows: ``harness.plan``, then ``harness.load``,
``harness.chaos`` and ``harness.watch`` under ``harness.conductor``, then
``harness.evidence``, ``harness.verdict`` and ``harness.report``. ``harness.lab``
is the stand-in target and knows nothing of the judge. ARCHITECTURE.md has the
reasons and the formats.
"""

__version__ = "0.1.0"
