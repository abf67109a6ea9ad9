"""Configuration from its TOML file and environment variables; no other package reads either."""

from agent.settings.fields import canonical_product
from agent.settings.findings import Finding, findings
from agent.settings.loading import Draft, draft, load
from agent.settings.mistakes import Mistake, SettingsError, dotted, shown
from agent.settings.model import (
    DEFAULT_GROUP,
    LOG_LEVELS,
    PUBLISH_LEAST_FIRST,
    BandwidthRule,
    BindingSettings,
    CanarySettings,
    CatalogSettings,
    DeviceSettings,
    GroupSettings,
    HttpSettings,
    LineSettings,
    LogLevel,
    MqttSettings,
    OutboxSettings,
    Publish,
    ScheduleRule,
    Settings,
    StreamSettings,
    SupplyHostSettings,
    SupplySettings,
    host_id,
)
from agent.settings.tables.web import WebClientSettings, WebSettings, is_loopback
from agent.settings.toml_file import read_toml
from agent.settings.units import MemoryBudget

__all__ = [
    "DEFAULT_GROUP",
    "LOG_LEVELS",
    "PUBLISH_LEAST_FIRST",
    "BandwidthRule",
    "BindingSettings",
    "CanarySettings",
    "CatalogSettings",
    "DeviceSettings",
    "Draft",
    "Finding",
    "GroupSettings",
    "HttpSettings",
    "LineSettings",
    "LogLevel",
    "MemoryBudget",
    "Mistake",
    "MqttSettings",
    "OutboxSettings",
    "Publish",
    "ScheduleRule",
    "Settings",
    "SettingsError",
    "StreamSettings",
    "SupplyHostSettings",
    "SupplySettings",
    "WebClientSettings",
    "WebSettings",
    "canonical_product",
    "dotted",
    "draft",
    "findings",
    "host_id",
    "is_loopback",
    "load",
    "read_toml",
    "shown",
]
