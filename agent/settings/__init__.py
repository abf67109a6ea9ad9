"""Configuration: the only reader of its file and of the environment."""

from agent.settings.fields import canonical_product
from agent.settings.findings import Finding, findings
from agent.settings.loading import Draft, draft, load
from agent.settings.mistakes import Mistake, SettingsError, dotted, shown
from agent.settings.model import (
    PUBLISH_LEAST_FIRST,
    BandwidthRule,
    BindingSettings,
    CatalogSettings,
    DeviceSettings,
    HttpSettings,
    LineSettings,
    MqttSettings,
    OutboxSettings,
    Publish,
    ScheduleRule,
    Settings,
    StreamSettings,
)
from agent.settings.toml_file import read_toml
from agent.settings.units import MemoryBudget

__all__ = [
    "PUBLISH_LEAST_FIRST",
    "BandwidthRule",
    "BindingSettings",
    "CatalogSettings",
    "DeviceSettings",
    "Draft",
    "Finding",
    "HttpSettings",
    "LineSettings",
    "MemoryBudget",
    "Mistake",
    "MqttSettings",
    "OutboxSettings",
    "Publish",
    "ScheduleRule",
    "Settings",
    "SettingsError",
    "StreamSettings",
    "canonical_product",
    "dotted",
    "draft",
    "findings",
    "load",
    "read_toml",
    "shown",
]
