"""Prints, as JSON, what cloud-init itself reads from the metadata service at the
URL that the argument names, in OpenStack's and in EC2's formats.

PYTHONPATH names the unpacked cloud-init package.
"""
import base64
import json
import sys

from cloudinit.sources import convert_vendordata
from cloudinit.sources.helpers import ec2, openstack

url = sys.argv[1]
reader = openstack.MetadataReader(url, timeout=10, retries=0)
# It would ask 169.254.169.254.
reader._read_ec2_metadata = lambda: ec2.get_instance_metadata(metadata_address=url, retries=0)
found = reader.read_v2()
network = openstack.convert_net_json(
    found["networkdata"], known_macs={link["ethernet_mac_address"]: link["id"] for link in found["networkdata"]["links"]})
interfaces = [c for c in network["config"] if c["type"] == "physical"]
json.dump({
    "version": found["version"],
    "id": found["metadata"]["instance-id"],
    "hostname": found["metadata"]["local-hostname"],
    "keys": found["metadata"]["public_keys"],
    "seed": len(found["metadata"]["random_seed"]),
    "user": base64.b64encode(found["userdata"]).decode(),
    "vendor": convert_vendordata(found["vendordata"]),
    "subnets": [[s["type"], s.get("address", ""), s.get("gateway", "")] for i in interfaces for s in i["subnets"]],
    "ec2": found["ec2-metadata"],
    "ec2user": base64.b64encode(ec2.get_instance_userdata(metadata_address=url, retries=0)).decode(),
}, sys.stdout)
