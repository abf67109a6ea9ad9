"""File descriptors that children inherit; numbers are valid in the receiving process."""

import msgspec


class SlotDescriptors(msgspec.Struct, frozen=True):
    """File descriptors of one stream's frame slot."""

    memory: int
    offered: int
    taken: int


class RequestLink(msgspec.Struct, frozen=True):
    """One side of the link for inference requests between the web process and one group's worker."""

    group: str
    channel: int
    """SOCK_SEQPACKET end of this side."""
    memory: int
    """Shared memory of the requests' pictures and tensors; see `agent.processes.slots.request_memory`."""
