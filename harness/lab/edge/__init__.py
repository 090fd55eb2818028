"""The edge of the lab: what stands for the CDN in front of the service.

One process outside every region. Downloads and image variants are answered from a bounded
cache, everything else goes to the origin, whose name is asked for as often as its TTL says.
"""
