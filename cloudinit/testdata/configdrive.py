"""Prints, as JSON, what cloud-init itself reads from the config drive in the
directory that the argument names.

PYTHONPATH names the unpacked cloud-init package.
"""
import base64
import json
import sys

from cloudinit.sources import convert_vendordata
from cloudinit.sources.helpers import openstack

drive = openstack.ConfigDriveReader(sys.argv[1]).read_v2()
macs = {link["ethernet_mac_address"]: link["id"] for link in drive["networkdata"]["links"]}
network = openstack.convert_net_json(drive["networkdata"], known_macs=macs)
interfaces = [c for c in network["config"] if c["type"] == "physical"]
json.dump({
    "id": drive["metadata"]["instance-id"],
    "hostname": drive["metadata"]["local-hostname"],
    "keys": sorted(drive["metadata"]["public_keys"].values()),
    "seed": base64.b64encode(drive["metadata"]["random_seed"]).decode(),
    "user": base64.b64encode(drive["userdata"]).decode(),
    "vendor": convert_vendordata(drive["vendordata"]),
    "subnets": [[s["type"], s.get("address", ""), s.get("netmask", "")] for i in interfaces for s in i["subnets"]],
    "dns": [c["address"] for c in network["config"] if c["type"] == "nameserver"],
}, sys.stdout)
