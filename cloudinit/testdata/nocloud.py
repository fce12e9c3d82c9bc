"""Prints, as JSON, what cloud-init itself reads from the NoCloud files in the directory
that the argument names.

PYTHONPATH names the unpacked cloud-init package.
"""
import base64
import json
import sys

from cloudinit import util
from cloudinit.net import network_state
from cloudinit.sources import DataSourceNoCloud as nocloud

seed = util.pathprefix2dict(sys.argv[1], required=["user-data", "meta-data"], optional=["vendor-data", "network-config"])
data = nocloud._merge_new_seed({"meta-data": {}, "user-data": "", "vendor-data": "", "network-config": None}, seed)
links = []
if data["network-config"]:
    state = network_state.parse_net_config_data(data["network-config"])
    for i in state.iter_interfaces():
        links.append({
            "name": i["name"], "mac": i["mac_address"], "mtu": i.get("mtu") or 0,
            "addresses": ["%s/%s" % (s["address"], s["prefix"]) for s in i["subnets"] if s["type"].startswith("static")],
            "dhcp": any(s["type"] in ("dhcp", "dhcp4") for s in i["subnets"]),
            "gateways": sorted([s["gateway"] for s in i["subnets"] if s.get("gateway")] + [
                # Debian 12's makes ::/64 of the default route ::/0.
                r["gateway"] for s in i["subnets"] for r in s.get("routes", []) if r["network"] in ("0.0.0.0", "::")]),
        })
json.dump({
    "id": data["meta-data"]["instance-id"],
    "hostname": data["meta-data"].get("local-hostname", ""),
    "user": base64.b64encode(util.encode_text(data["user-data"])).decode(),
    "vendor": base64.b64encode(util.encode_text(data["vendor-data"])).decode(),
    "links": links,
}, sys.stdout)
