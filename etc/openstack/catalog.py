#!/usr/bin/python3
"""Fills in a new cloud: users, projects, roles, and the catalog.

catalog.py PASSWORD NAME TYPE URL [NAME TYPE URL...]
"""

import sys

import openstack

password, *services = sys.argv[1:]
cloud = openstack.connect()
identity = cloud.identity


def named(listed, create, name, **more):
    """The one with a name, made if it is not there."""
    return next((x for x in listed() if x.name == name), None) or create(name=name, **more)


def project(name):
    return named(identity.projects, identity.create_project, name, domain_id="default")


def role(name):
    return named(identity.roles, identity.create_role, name)


def user(name, where, *roles):
    who = named(identity.users, identity.create_user, name, domain_id="default",
                password=password, default_project_id=where.id)
    for r in roles:
        identity.assign_project_role_to_user(where, who, role(r))


user("demo", project("demo"), "member", "reader")
user("other", project("other"), "member", "reader")
user("slipway", project("service"), "admin", "service")
for name, kind, url in zip(services[::3], services[1::3], services[2::3]):
    user(name, project("service"), "admin", "service")
    service = named(identity.services, identity.create_service, name, type=kind)
    known = {e.interface for e in identity.endpoints(service_id=service.id)}
    for interface in ("public", "internal", "admin"):
        if interface not in known:
            identity.create_endpoint(service_id=service.id, interface=interface, url=url, region_id="RegionOne")
