"""Locustfiles of the bench; which workload they send is in ``BENCH_WORKLOAD``."""
