"""The worker, leases, stop signals and background loops: what runs between requests.

It may import `operations` and below.
"""
