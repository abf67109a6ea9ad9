"""Structured Text as config/plc has it: its files read, parsed by blark, and one function block executed."""

import operator
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import blark
from blark import transform as tf
from plc.block import Ton

CONFIG: Final = Path(__file__).parents[2] / "config" / "plc"
_TC6: Final = "{http://www.plcopen.org/xml/tc6_0200}"
_XHTML: Final = "{http://www.w3.org/1999/xhtml}"
_SCL: Final = (
    (r"\{[^}]*\}", ""),  # attributes of a block
    (r"^VERSION.*$", ""),
    (r"^BEGIN$", ""),
    (r'"(\w+)"', r"\1"),  # names of blocks and types
    (r"#(?=[A-Za-z])(?<![A-Za-z]#)", ""),  # names of the block's own variables; T#1S and WSTRING#'...' stay
    (r"WSTRING#'([^']*)'", r'"\1"'),
    (r"String\[(\d+)\]", r"STRING(\1)"),
    (r"\bWString\b", "WSTRING(254)"),
    (r"\bTON_TIME\b", "TON"),
)
"""SCL's spellings, each with that of the grammar; the rest of these files is the same language."""
_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    ">=": operator.ge,
    "+": operator.add,
    "-": operator.sub,
    "AND": operator.and_,
}


def twincat(name: str) -> str:
    """Return the block of a .TcPOU as one text."""
    root = ET.fromstring((CONFIG / "twincat" / f"{name}.TcPOU").read_text(encoding="utf-8"))
    declaration, body = root.findtext("POU/Declaration"), root.findtext("POU/Implementation/ST")
    return f"{declaration}\n{body}\nEND_FUNCTION_BLOCK\n"


def codesys(name: str) -> str:
    """Return the block of the PLCopen file as one text."""
    root = ET.fromstring((CONFIG / "codesys" / "Vision.xml").read_text(encoding="utf-8"))
    (pou,) = (one for one in root.iter(f"{_TC6}pou") if one.get("name") == name)
    sections = {"inputVars": "VAR_INPUT", "outputVars": "VAR_OUTPUT", "localVars": "VAR"}
    lines = [f"FUNCTION_BLOCK {name}"]
    for section in pou.find(f"{_TC6}interface") or []:
        kind = sections[section.tag.removeprefix(_TC6)]
        lines.append(f"{kind} CONSTANT" if section.get("constant") == "true" else kind)
        lines += [_declared(variable) for variable in section]
        lines.append("END_VAR")
    body = pou.findtext(f"{_TC6}body/{_TC6}ST/{_XHTML}xhtml")
    return "\n".join([*lines, body or "", "END_FUNCTION_BLOCK", ""])


def scl(name: str) -> str:
    """Return an SCL source as the same language without its dialect."""
    text = (CONFIG / "s7-1500" / f"{name}.scl").read_text(encoding="utf-8")
    for pattern, instead in _SCL:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text


@cache
def block(source: str) -> tf.FunctionBlock:
    """Parse a text that is one function block. Raises what blark raises for any other."""
    (found,) = blark.parse_source_code(source).transform().items
    assert isinstance(found, tf.FunctionBlock)
    return found


class Instance:
    """One instance of a parsed block, with the statements that the interlock needs and no others."""

    def __init__(self, source: str) -> None:
        parsed = block(source)
        assert parsed.body is not None
        self.values: dict[str, Any] = {}
        self._statements = parsed.body
        self._now_ms = 0
        for declarations in parsed.declarations:
            for item in declarations.items:
                for variable in item.variables:
                    self.values[_name(variable)] = self._initial(item.init)

    def call(self, now_ms: int, **inputs: Any) -> None:  # noqa: ANN401 - a variable of the block has any type
        self._now_ms = now_ms
        assert set(inputs) <= set(self.values)
        self.values.update(inputs)
        self._run(self._statements)

    def _initial(self, init: tf.TypeInitialization) -> Any:  # noqa: ANN401
        if init.value is not None:
            return self._value(init.value)
        kind = str(getattr(init.spec.type, "type_name", init.spec.type)).upper()
        return {"BOOL": False, "TIME": 0, "STRING": "", "TON": Ton()}[kind]

    def _run(self, statements: tf.StatementList | None) -> None:
        for one in statements.statements if statements is not None else ():
            match one:
                case tf.AssignmentStatement():
                    (variable,) = one.variables
                    self.values[_name(variable)] = self._value(one.expression)
                case tf.IfStatement():
                    assert not one.else_ifs
                    if self._value(one.if_expression):
                        self._run(one.statements)
                    elif one.else_clause is not None:
                        self._run(one.else_clause.statements)
                case tf.FunctionCallStatement():
                    given = {str(given.name): self._value(given.value) for given in one.parameters}
                    self.values[_name(one.name)](given["IN"], given["PT"], self._now_ms)
                case _:
                    raise AssertionError(f"no statement of the interlock: {one}")

    def _value(self, one: Any) -> Any:  # noqa: ANN401, PLR0911 - one return a kind of expression
        match one:
            case tf.ParenthesizedExpression():
                return self._value(one.expr)
            case tf.BinaryOperation():
                return _COMPARISONS[str(one.op)](self._value(one.left), self._value(one.right))
            case tf.UnaryOperation():
                assert str(one.op) == "NOT"
                return not self._value(one.expr)
            case tf.Boolean():
                return str(one.value).upper() == "TRUE"
            case tf.String():
                return str(one.value)[1:-1]
            case tf.Duration():
                return int(one.milliseconds or 0)
            case tf.MultiElementVariable():
                assert [str(element.field) for element in one.elements] == ["ET"]
                return self.values[_name(one.name)].elapsed_ms
            case tf.SimpleVariable():
                return self.values[_name(one)]
            case _:
                raise AssertionError(f"no expression of the interlock: {one}")


def _name(variable: Any) -> str:  # noqa: ANN401 - blark's variables of several kinds
    return str(getattr(variable, "variable", variable))


def _declared(variable: ET.Element) -> str:
    (kind,) = variable.find(f"{_TC6}type") or []
    tag = kind.tag.removeprefix(_TC6)
    name = kind.get("name") or tag.upper() + (f"({kind.get('length')})" if kind.get("length") else "")
    initial = variable.find(f"{_TC6}initialValue/{_TC6}simpleValue")
    return f"{variable.get('name')} : {name}{'' if initial is None else ' := ' + str(initial.get('value'))};"
