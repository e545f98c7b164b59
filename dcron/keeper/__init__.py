"""A node's keeper: the small process that starts its scripts and sees them end, daemon or no daemon.

`python -m dcron.keeper SPOOL`. It imports nothing of the rest of dcron and only the standard library, and
leaves out its heavier parts (asyncio, dataclasses, typing): one runs on every node, and the kernel never
counts a script's peak memory as less than that of the process it was started from.
"""
