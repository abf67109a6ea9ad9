"""Every call of Triton's clients that the protocol and its repository extension have; run in the client's own venv.

Arguments: http or grpc, HOST:PORT, the token, a JPEG's path. Prints one JSON object: what each call gave.
"""

import importlib
import json
import sys
from typing import Any

import numpy as np

KIND, URL, TOKEN, PICTURE = sys.argv[1:5]
TRITON: Any = importlib.import_module(f"tritonclient.{KIND}")
# Copied for each call, because the HTTP client adds to what it is given.
HEADERS = {"Authorization" if KIND == "http" else "authorization": f"Bearer {TOKEN}"}


def inputs(binary: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - the client's own flag
    x, k = TRITON.InferInput("x", [1, 4], "FP32"), TRITON.InferInput("k", [4], "INT64")
    more = {"binary_data": binary} if KIND == "http" else {}
    x.set_data_from_numpy(np.array([[1, 2, 3, 4]], np.float32), **more)
    k.set_data_from_numpy(np.array([10, 20, 30, 40], np.int64), **more)
    return [x, k]


def picture() -> list[Any]:
    one = TRITON.InferInput("image", [1], "BYTES")
    with open(PICTURE, "rb") as file:  # noqa: PTH123 - a script of few lines
        one.set_data_from_numpy(np.array([file.read()], np.object_))
    return [one]


def wanted(name: str, binary: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - the same
    return [TRITON.InferRequestedOutput(name, **({"binary_data": binary} if KIND == "http" else {}))]


def as_dict(answer: Any) -> Any:  # noqa: ANN401 - a message or what JSON holds
    if isinstance(answer, dict | list):
        return answer
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415 - only for gRPC

    return MessageToDict(answer, preserving_proto_field_name=True)


def refused(call: Any, *arguments: Any, **named: Any) -> str:  # noqa: ANN401 - any of the client's
    try:
        call(*arguments, **named)
    except TRITON.InferenceServerException as error:
        return str(error.status())
    return ""


def streamed(client: Any) -> list[float]:  # noqa: ANN401 - the client
    import queue  # noqa: PLC0415 - only for gRPC

    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=dict(HEADERS))
    client.async_stream_infer("affine", inputs())
    result, error = answers.get(timeout=60)
    client.stop_stream()
    assert error is None, error
    return [float(one) for one in result.as_numpy("y").ravel()]


def main() -> None:
    client = TRITON.InferenceServerClient(URL)
    given: dict[str, Any] = {
        "live": client.is_server_live(headers=dict(HEADERS)),
        "ready": client.is_server_ready(headers=dict(HEADERS)),
        "server": as_dict(client.get_server_metadata(headers=dict(HEADERS))),
    }
    client.load_model("affine", headers=dict(HEADERS))
    given["loaded"] = client.is_model_ready("affine", headers=dict(HEADERS))
    given["model"] = as_dict(client.get_model_metadata("affine", "1", headers=dict(HEADERS)))
    given["index"] = as_dict(client.get_model_repository_index(headers=dict(HEADERS)))
    for binary in (True, False) if KIND == "http" else (True,):
        answer = client.infer(
            "affine", inputs(binary), outputs=wanted("y", binary), request_id="7", headers=dict(HEADERS)
        )
        given[f"y_{binary}"] = answer.as_numpy("y").tolist()
        given["id"] = as_dict(answer.get_response())["id"]
    everything = client.infer("affine", inputs(), headers=dict(HEADERS))
    given["all"] = {name: everything.as_numpy(name).tolist() for name in ("y", "kk")}
    if KIND == "http":
        packed = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"}
        given["packed"] = client.infer("affine", inputs(), **packed, headers=dict(HEADERS)).as_numpy("y").tolist()
        given["async"] = (
            client.async_infer("affine", inputs(), headers=dict(HEADERS)).get_result().as_numpy("y").tolist()
        )
    else:
        given["stream"] = streamed(client)
    found = client.infer(
        "alpha", picture(), parameters={"confidence": 0.5} if KIND == "http" else None, headers=dict(HEADERS)
    )
    given["boxes"] = found.as_numpy("boxes").tolist()
    given["labels"] = [one.decode() for one in found.as_numpy("labels")]
    given["none"] = refused(client.infer, "none", inputs(), headers=dict(HEADERS))
    given["wrong"] = refused(client.infer, "affine", inputs()[:1], headers=dict(HEADERS))
    given["nobody"] = refused(client.get_server_metadata)
    client.unload_model("affine", headers=dict(HEADERS))
    given["unloaded"] = client.is_model_ready("affine", headers=dict(HEADERS))
    client.close()
    sys.stdout.write(json.dumps(given))


main()
