"""Prints, as JSON, what cloud-init itself makes of the user-data on standard input:
the merged cloud-config, and the scripts and boothooks by name.

PYTHONPATH names the unpacked cloud-init package.
"""
import base64
import json
import sys
import tempfile

from cloudinit import helpers, user_data
from cloudinit.handlers.cloud_config import CloudConfigPartHandler

directory = tempfile.mkdtemp()
paths = helpers.Paths({"cloud_dir": directory, "run_dir": directory})
message = user_data.UserDataProcessor(paths).process(sys.stdin.buffer.read())

config = CloudConfigPartHandler(paths)
config.cloud_buf, config.file_names = {}, []
scripts, boothooks, others = {}, {}, []
for part in message.walk():
    if user_data.is_skippable(part):
        continue
    kind, name = part.get_content_type(), part.get_filename()
    payload = part.get_payload(decode=True)
    if isinstance(payload, str):
        payload = payload.encode()
    if kind == "text/cloud-config":
        config.handle_part(None, kind, name, payload.decode(), None, dict(part))
    elif kind == "text/x-shellscript":
        scripts[name] = base64.b64encode(payload.replace(b"\r\n", b"\n")).decode()
    elif kind == "text/x-shellscript-per-boot":
        boothooks[name] = base64.b64encode(payload.replace(b"\r\n", b"\n")).decode()
    elif kind == "text/cloud-boothook":
        text = payload.decode().lstrip()
        if text.startswith("#cloud-boothook"):
            text = text[len("#cloud-boothook"):].lstrip()
        boothooks[name] = base64.b64encode(text.encode()).decode()
    else:
        others.append(kind)
json.dump({"config": config.cloud_buf, "scripts": scripts, "boothooks": boothooks, "others": others},
          sys.stdout, default=str)
