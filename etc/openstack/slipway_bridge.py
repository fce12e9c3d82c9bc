"""Binds the ports of an ML2 that has no agents: to a bridge on the host, which Nova
makes, and which leads nowhere."""

# Neutron 21 declares a relation of ports to this model, which only its L3 plugin loads.
from neutron.db.models import port_forwarding  # noqa: F401
from neutron_lib import constants
from neutron_lib.plugins.ml2 import api
from sqlalchemy import orm


class BridgeDriver(api.MechanismDriver):
    def initialize(self):
        orm.configure_mappers()

    @property
    def connectivity(self):
        return "l2"

    def bind_port(self, context):
        segment = context.segments_to_bind[0]
        context.set_binding(segment[api.ID], "bridge", {"port_filter": True}, status=constants.PORT_STATUS_ACTIVE)
