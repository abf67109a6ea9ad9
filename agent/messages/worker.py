"""The messages that control and a worker exchange, as the two types that their channel decodes."""

from agent.messages.canary import Compare, Compared, ComparisonBegan, ComparisonFailed, StopComparing
from agent.messages.children import (
    Assign,
    Beat,
    Breaking,
    CacheDecided,
    CacheState,
    Detections,
    Hello,
    InferenceFailed,
    Log,
    LogSetup,
    MemoryKept,
    ModelRuns,
    Preload,
    Prepare,
    Prepared,
    PrepareFailed,
    Preparing,
    SwapFailed,
    Swapped,
    ThreadCrashed,
    WorkerSetup,
)
from agent.messages.groups.memory_share import Share, ShareAsked, ShareHeld, ShareRecalled

Outcome = Breaking | Preparing | SwapFailed | Prepared | PrepareFailed | ComparisonBegan | Compared | ComparisonFailed
"""Result of a request, by which alone control decides."""
WorkerMessage = (
    Outcome
    | Swapped
    | Detections
    | InferenceFailed
    | CacheState
    | ModelRuns
    | CacheDecided
    | MemoryKept
    | ShareAsked
    | ShareHeld
    | ThreadCrashed
    | Hello
    | Beat
    | Log
)
ToWorker = WorkerSetup | Assign | Prepare | Preload | Share | ShareRecalled | Compare | StopComparing | LogSetup
