"""Walls around a process that the kernel holds: a filter of system calls, and Landlock's access to files."""

from agent.processes.walls import landlock, syscalls


def missing_walls() -> dict[str, str]:
    """Return the walls that this kernel does not support, each with the missing feature."""
    missing = {}
    if not syscalls.is_there():
        missing["calls"] = (
            "no filter of system calls (the package libseccomp2, and a kernel with CONFIG_SECCOMP_FILTER)"
        )
    if "calls" in missing or not landlock.version():  # because libseccomp knows Landlock's calls by name
        missing["files"] = "the kernel has no Landlock (5.13 or newer, CONFIG_SECURITY_LANDLOCK, `lsm=landlock,...`)"
    return missing
