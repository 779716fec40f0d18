"""The four promises of the program, in the order of its flow."""

from .dns import DnsRecords
from .headscale import HeadscaleBootstrap
from .nixos import NixosDeployment
from .server import Server

__all__ = ["DnsRecords", "HeadscaleBootstrap", "NixosDeployment", "Server"]
