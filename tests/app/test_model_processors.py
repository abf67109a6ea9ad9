"""The processors that models run on, in `meta`, `health` and `cache`, and the alerts that follow."""

from agent.app.observability.cache_topic import CacheTopic
from agent.app.observability.model_processors import ModelProcessors
from agent.messages.children import CacheState, ModelRuns, ResidentModel
from agent.messages.events import Noticed
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelReading

AT = "2026-01-01T06:00:00.000Z"
ON_CPU = ModelProcessor("cpu", "openvino", "2026.4.1", "CPU")
MISSING = ModelProcessor("cpu", "openvino", "2026.4.1", "CPU", "no cuDNN (libcudnn.so.9 cannot be loaded)")
ON_GPU = ModelProcessor("cuda:0", "onnxruntime", "1.31.1", "CUDAExecutionProvider")
OLD = ModelProcessor("cuda:0", "onnxruntime", "1.23.2", "CUDAExecutionProvider")
DETECTS = ModelReading("detect", "v8")
QUIET = [Noticed("gpu_unused", on=False), Noticed("old_runtime", on=False)]


def state(**states: str) -> CacheState:
    models = tuple(ResidentModel(f"{name}:n@1", 60, state, AT) for name, state in states.items())
    return CacheState(200, 60 * len(models), models)


def told(**processors: ModelProcessor) -> ModelProcessors:
    heard = ModelProcessors()
    for name, processor in processors.items():
        heard.take(ModelRuns(f"{name}:n@1", processor, DETECTS))
    heard.take(state(**dict.fromkeys(processors, "active")))
    return heard


def test_only_resident_models_are_told() -> None:
    heard = ModelProcessors()
    heard.take(state(a="loading"))
    heard.take(ModelRuns("a:n@1", ON_GPU, DETECTS))
    heard.take(state(a="loading"))
    assert heard.resident == {}
    heard.take(state(a="pinned"))
    assert heard.resident == {"a:n@1": ON_GPU}
    heard.take(state(a="releasing"))
    assert heard.resident == {}
    heard.take(state())
    heard.take(state(a="loading"))
    heard.take(state(a="active"))
    assert heard.resident == {}, "what an earlier load ran on says nothing of this one"


def test_a_lost_worker_takes_its_models_and_their_alerts_along() -> None:
    heard = told(a=MISSING)
    assert heard.notices() != QUIET
    heard.worker_lost()
    assert heard.resident == {}
    assert heard.notices() == QUIET


def test_a_gpu_that_models_do_not_use_is_one_alert_with_what_is_missing() -> None:
    unused, old = told(a=MISSING, b=ON_GPU, c=MISSING).notices()
    detail = "a:n@1, c:n@1 on cpu: no cuDNN (libcudnn.so.9 cannot be loaded)"
    assert unused == Noticed("gpu_unused", on=True, detail=detail)
    assert not old.on
    assert told(a=ON_CPU, b=ON_GPU).notices() == QUIET


def test_an_old_onnxruntime_that_serves_is_an_alert() -> None:
    unused, old = told(a=OLD, b=OLD, c=ON_GPU).notices()
    assert not unused.on
    assert old.on
    assert old.detail == "ONNX Runtime 1.23.2 stops every line while it loads a model; 1.31 and later do not"


def test_the_runtime_that_serves_most_models_is_told() -> None:
    assert told().runtime() is None
    assert told(a=ON_GPU).runtime() == "onnxruntime"
    assert told(a=ON_GPU, b=ON_CPU, c=MISSING).runtime() == "openvino"


def test_the_cache_names_the_processor() -> None:
    ledger = CacheTopic()
    ledger.take(state(a="active", b="loading"))
    cache = ledger.payload(told(a=ON_GPU).resident)
    assert cache is not None
    assert [one.processor for one in cache.models] == ["cuda:0", None]


def test_keypoints_of_resident_models_are_named() -> None:
    heard = told(a=ON_CPU)
    heard.take(ModelRuns("b:n@1", ON_CPU, ModelReading("pose", "v8", ("cap", "base"))))
    assert heard.keypoints() == {}
    heard.take(state(a="active", b="active"))
    assert heard.keypoints() == {"b:n@1": ["cap", "base"]}
    heard.take(state(a="active"))
    assert heard.keypoints() == {}
