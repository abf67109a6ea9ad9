"""Messages of the protocol's gRPC side, made from a table when they are needed.

There is no generated code, because such code works with two releases of protobuf only, and this with all. Names and
numbers of fields are the specification's (https://github.com/kserve/open-inference-protocol), and Triton's for the
repository.
"""

from typing import Any, Final, TypeAlias

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE: Final = "inference"
SERVICE: Final = f"{PACKAGE}.GRPCInferenceService"
Untyped: TypeAlias = Any
"""A message, or its class, whose fields are those of the table."""

_KINDS: Final = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
    "float": FieldDescriptorProto.TYPE_FLOAT,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
}
_TENSOR: Final = ("1 name string", "2 datatype string", "3 shape int64*")
_NAMED: Final = ("1 name string", "2 version string")
_OF_REPOSITORY: Final = ("1 repository_name string", "2 model_name string", "3 parameters {ModelRepositoryParameter}")

_TABLE: Final[dict[str, tuple[str, ...]]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("1 live bool",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("1 ready bool",),
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": ("1 ready bool",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("1 name string", "2 version string", "3 extensions string*"),
    "ModelMetadataRequest": _NAMED,
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "ModelMetadataResponse": (
        "1 name string",
        "2 versions string*",
        "3 platform string",
        "4 inputs ModelMetadataResponse.TensorMetadata*",
        "5 outputs ModelMetadataResponse.TensorMetadata*",
    ),
    "InferParameter": (
        "1 bool_param bool|",
        "2 int64_param int64|",
        "3 string_param string|",
        "4 double_param double|",
        "5 uint64_param uint64|",
    ),
    "InferTensorContents": (
        "1 bool_contents bool*",
        "2 int_contents int32*",
        "3 int64_contents int64*",
        "4 uint_contents uint32*",
        "5 uint64_contents uint64*",
        "6 fp32_contents float*",
        "7 fp64_contents double*",
        "8 bytes_contents bytes*",
    ),
    "ModelInferRequest.InferInputTensor": (*_TENSOR, "4 parameters {InferParameter}", "5 contents InferTensorContents"),
    "ModelInferRequest.InferRequestedOutputTensor": ("1 name string", "2 parameters {InferParameter}"),
    "ModelInferRequest": (
        "1 model_name string",
        "2 model_version string",
        "3 id string",
        "4 parameters {InferParameter}",
        "5 inputs ModelInferRequest.InferInputTensor*",
        "6 outputs ModelInferRequest.InferRequestedOutputTensor*",
        "7 raw_input_contents bytes*",
    ),
    "ModelInferResponse.InferOutputTensor": (
        *_TENSOR,
        "4 parameters {InferParameter}",
        "5 contents InferTensorContents",
    ),
    "ModelInferResponse": (
        "1 model_name string",
        "2 model_version string",
        "3 id string",
        "4 parameters {InferParameter}",
        "5 outputs ModelInferResponse.InferOutputTensor*",
        "6 raw_output_contents bytes*",
    ),
    "ModelStreamInferResponse": ("1 error_message string", "2 infer_response ModelInferResponse"),
    "ModelRepositoryParameter": (
        "1 bool_param bool|",
        "2 int64_param int64|",
        "3 string_param string|",
        "4 bytes_param bytes|",
    ),
    "RepositoryIndexRequest": ("1 repository_name string", "2 ready bool"),
    "RepositoryIndexResponse.ModelIndex": ("1 name string", "2 version string", "3 state string", "4 reason string"),
    "RepositoryIndexResponse": ("1 models RepositoryIndexResponse.ModelIndex*",),
    "RepositoryModelLoadRequest": _OF_REPOSITORY,
    "RepositoryModelLoadResponse": (),
    "RepositoryModelUnloadRequest": _OF_REPOSITORY,
    "RepositoryModelUnloadResponse": (),
}
"""Fields as `NUMBER NAME TYPE`; `*` repeated, `|` of the message's only choice, `{TYPE}` a map from strings."""

METHODS: Final = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)
"""Methods with one request and one answer; ModelStreamInfer has many of both."""


class Messages:
    """The messages' classes by name, such as `ModelInferRequest`."""

    def __init__(self) -> None:
        """Make all classes; takes some milliseconds."""
        file = FileDescriptorProto(name="changeover/open_inference.proto", package=PACKAGE, syntax="proto3")
        made: dict[str, DescriptorProto] = {}
        for name, fields in sorted(_TABLE.items(), key=lambda item: item[0].count(".")):
            outer, _, inner = name.rpartition(".")
            message = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
            made[name] = message
            for field in fields:
                _add(message, name, *field.split(" "))
        pool = DescriptorPool()
        pool.Add(file)
        self._classes: Final = {
            name: GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _TABLE
        }

    def __getitem__(self, name: str) -> Untyped:
        """Return a message's class."""
        return self._classes[name]


def _add(message: DescriptorProto, owner: str, number: str, name: str, kind: str) -> None:
    """Add a field to a message, as a line of the table says."""
    field = message.field.add(name=name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
    if kind.endswith(("*", "}")):
        field.label = FieldDescriptorProto.LABEL_REPEATED
    if kind.endswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    bare = kind.strip("*|{}")
    if kind.startswith("{"):
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        _add(entry, "", "1", "key", "string")
        _add(entry, "", "2", "value", bare)
        bare = f"{owner}.ParametersEntry"
    if bare in _KINDS:
        field.type = _KINDS[bare]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{bare}"
