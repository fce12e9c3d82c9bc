#!/usr/bin/python3
"""Gives a new Nova what a server is made of: small flavors and a network."""

import openstack

cloud = openstack.connect()
for name, ram, disk in ("m1.nano", 128, 1), ("m1.tiny", 512, 1), ("m1.small", 1024, 10):
    if not cloud.compute.find_flavor(name):
        cloud.compute.create_flavor(name=name, ram=ram, vcpus=1, disk=disk)
if not cloud.network.find_network("private"):
    net = cloud.network.create_network(name="private", shared=True)
    cloud.network.create_subnet(name="private", network_id=net.id, ip_version=4, cidr="10.9.0.0/24",
                                gateway_ip=None, enable_dhcp=False)
