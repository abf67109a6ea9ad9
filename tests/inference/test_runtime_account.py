"""A runtime may keep so much, and no more."""

from agent.inference.memory.runtime_overhead import RUNTIMES_OWN_BYTES, RuntimeOverhead


def test_what_a_runtime_keeps_is_bounded() -> None:
    account = RuntimeOverhead()
    assert account.left_bytes("openvino") == RUNTIMES_OWN_BYTES
    account.keep("openvino", 10)
    account.keep("openvino", -4)
    assert account.left_bytes("openvino") == RUNTIMES_OWN_BYTES - 6
    account.keep("openvino", 10 * RUNTIMES_OWN_BYTES)
    assert account.left_bytes("openvino") == 0


def test_what_comes_back_is_no_credit_beyond_the_bound() -> None:
    account = RuntimeOverhead()
    account.keep("openvino", -100)
    assert account.left_bytes("openvino") == RUNTIMES_OWN_BYTES


def test_runtimes_have_accounts_of_their_own_and_a_shared_arena_a_larger_one() -> None:
    account = RuntimeOverhead()
    account.keep("openvino", RUNTIMES_OWN_BYTES)
    assert account.left_bytes("onnxruntime") > RUNTIMES_OWN_BYTES
