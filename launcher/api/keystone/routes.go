package keystone

import "slices"

func (a *API) routes() []route {
	return slices.Concat(a.tokenRoutes(), a.userRoutes(), a.projectRoutes(), a.roleRoutes(), a.grantRoutes(), a.catalogRoutes(), a.storedRoutes(), a.trustRoutes(), a.limitRoutes(), a.policyRoutes())
}

func (a *API) tokenRoutes() []route {
	return []route{
		{"GET", "/{$}", "", anyone, a.versions},
		{"GET", "/v3", "", anyone, a.version},
		{"POST", "/v3/auth/tokens", "", anyone, a.issueToken},
		{"GET", "/v3/auth/tokens", "identity:validate_token", tokenHolder, a.validateToken},
		{"DELETE", "/v3/auth/tokens", "identity:revoke_token", tokenHolder, a.revokeToken},
		{"GET", "/v3/auth/catalog", "identity:get_auth_catalog", tokenHolder, a.authCatalog},
		{"GET", "/v3/auth/projects", "identity:get_auth_projects", tokenHolder, a.authProjects},
		{"GET", "/v3/auth/domains", "identity:get_auth_domains", tokenHolder, a.authDomains},
		{"GET", "/v3/auth/system", "identity:get_auth_system", tokenHolder, a.authSystem},
	}
}

func (a *API) userRoutes() []route {
	return []route{
		{"GET", "/v3/users", "identity:list_users", reader, a.listUsers},
		{"POST", "/v3/users", "identity:create_user", admin, a.createUser},
		{"GET", "/v3/users/{user}", "identity:get_user", selfOrReader, a.showUser},
		{"PATCH", "/v3/users/{user}", "identity:update_user", admin, a.updateUser},
		{"DELETE", "/v3/users/{user}", "identity:delete_user", admin, a.deleteUser},
		// Who knows the old password needs no token.
		{"POST", "/v3/users/{user}/password", "", anyone, a.changePassword},
		{"GET", "/v3/users/{user}/projects", "identity:list_user_projects", selfOrReader, a.listUserProjects},
		{"GET", "/v3/users/{user}/groups", "identity:list_groups_for_user", selfOrReader, a.listUserGroups},

		{"GET", "/v3/users/{user}/application_credentials", "identity:list_application_credentials", selfOrReader, a.listCredentials},
		{"POST", "/v3/users/{user}/application_credentials", "identity:create_application_credential", self, a.createCredential},
		{"GET", "/v3/users/{user}/application_credentials/{credential}", "identity:get_application_credential", selfOrReader, a.showCredential},
		{"DELETE", "/v3/users/{user}/application_credentials/{credential}", "identity:delete_application_credential", selfOrAdmin, a.deleteCredential},
		{"GET", "/v3/users/{user}/access_rules", "identity:list_access_rules", selfOrReader, a.listAccessRules},
		{"GET", "/v3/users/{user}/access_rules/{rule}", "identity:get_access_rule", selfOrReader, a.showAccessRule},
		{"DELETE", "/v3/users/{user}/access_rules/{rule}", "identity:delete_access_rule", selfOrAdmin, a.deleteAccessRule},

		{"GET", "/v3/groups", "identity:list_groups", reader, a.listGroups},
		{"POST", "/v3/groups", "identity:create_group", admin, a.createGroup},
		{"GET", "/v3/groups/{group}", "identity:get_group", reader, a.showGroup},
		{"PATCH", "/v3/groups/{group}", "identity:update_group", admin, a.updateGroup},
		{"DELETE", "/v3/groups/{group}", "identity:delete_group", admin, a.deleteGroup},
		{"GET", "/v3/groups/{group}/users", "identity:list_users_in_group", reader, a.listMembers},
		{"GET", "/v3/groups/{group}/users/{user}", "identity:check_user_in_group", reader, a.checkMember},
		{"PUT", "/v3/groups/{group}/users/{user}", "identity:add_user_to_group", admin, a.addMember},
		{"DELETE", "/v3/groups/{group}/users/{user}", "identity:remove_user_from_group", admin, a.removeMember},
	}
}

func (a *API) projectRoutes() []route {
	return []route{
		{"GET", "/v3/projects", "identity:list_projects", reader, a.listProjects},
		{"POST", "/v3/projects", "identity:create_project", admin, a.createProject},
		{"GET", "/v3/projects/{project}", "identity:get_project", insideOrReader, a.showProject},
		{"PATCH", "/v3/projects/{project}", "identity:update_project", admin, a.updateProject},
		{"DELETE", "/v3/projects/{project}", "identity:delete_project", admin, a.deleteProject},
		{"GET", "/v3/projects/{project}/tags", "identity:list_project_tags", insideOrReader, a.listTags},
		{"PUT", "/v3/projects/{project}/tags", "identity:update_project_tags", admin, a.setTags},
		{"DELETE", "/v3/projects/{project}/tags", "identity:delete_project_tags", admin, a.removeTags},
		{"GET", "/v3/projects/{project}/tags/{tag}", "identity:get_project_tag", insideOrReader, a.checkTag},
		{"PUT", "/v3/projects/{project}/tags/{tag}", "identity:create_project_tag", admin, a.addTag},
		{"DELETE", "/v3/projects/{project}/tags/{tag}", "identity:delete_project_tag", admin, a.removeTag},

		{"GET", "/v3/domains", "identity:list_domains", reader, a.listDomains},
		{"POST", "/v3/domains", "identity:create_domain", admin, a.createDomain},
		{"GET", "/v3/domains/{domain}", "identity:get_domain", insideOrReader, a.showDomain},
		{"PATCH", "/v3/domains/{domain}", "identity:update_domain", admin, a.updateDomain},
		{"DELETE", "/v3/domains/{domain}", "identity:delete_domain", admin, a.deleteDomain},
	}
}

func (a *API) roleRoutes() []route {
	return []route{
		{"GET", "/v3/roles", "identity:list_roles", reader, a.listRoles},
		{"POST", "/v3/roles", "identity:create_role", admin, a.createRole},
		{"GET", "/v3/roles/{role}", "identity:get_role", reader, a.showRole},
		{"PATCH", "/v3/roles/{role}", "identity:update_role", admin, a.updateRole},
		{"DELETE", "/v3/roles/{role}", "identity:delete_role", admin, a.deleteRole},
		{"GET", "/v3/role_inferences", "identity:list_role_inference_rules", reader, a.listInferences},
		{"GET", "/v3/roles/{role}/implies", "identity:list_implied_roles", reader, a.listImplied},
		{"GET", "/v3/roles/{role}/implies/{implied}", "identity:get_implied_role", reader, a.showImplied},
		{"PUT", "/v3/roles/{role}/implies/{implied}", "identity:create_implied_role", admin, a.imply},
		{"DELETE", "/v3/roles/{role}/implies/{implied}", "identity:delete_implied_role", admin, a.doNotImply},
		{"GET", "/v3/role_assignments", "identity:list_role_assignments", reader, a.listAssignments},
	}
}

// grantRoutes are those that give roles: to users and groups, on projects, domains
// and the system, there or inherited below.
func (a *API) grantRoutes() []route {
	var all []route
	for _, target := range []string{"projects/{project}", "domains/{domain}", "system"} {
		for _, actor := range []string{"users/{user}", "groups/{group}"} {
			path := target + "/" + actor + "/roles"
			one := "/v3/" + path + "/{role}"
			all = append(all,
				route{"GET", "/v3/" + path, "identity:list_grants", reader, a.listGrants(false)},
				route{"GET", one, "identity:check_grant", reader, a.checkGrant(false)},
				route{"PUT", one, "identity:create_grant", admin, a.grant(false)},
				route{"DELETE", one, "identity:revoke_grant", admin, a.revokeGrant(false)},
			)
			if target == "system" {
				continue
			}
			const below = "/inherited_to_projects"
			one = "/v3/OS-INHERIT/" + path + "/{role}" + below
			all = append(all,
				route{"GET", "/v3/OS-INHERIT/" + path + below, "identity:list_grants", reader, a.listGrants(true)},
				route{"GET", one, "identity:check_grant", reader, a.checkGrant(true)},
				route{"PUT", one, "identity:create_grant", admin, a.grant(true)},
				route{"DELETE", one, "identity:revoke_grant", admin, a.revokeGrant(true)},
			)
		}
	}
	return all
}

func (a *API) catalogRoutes() []route {
	return []route{
		{"GET", "/v3/services", "identity:list_services", reader, a.listServices},
		{"POST", "/v3/services", "identity:create_service", admin, a.createService},
		{"GET", "/v3/services/{id}", "identity:get_service", reader, a.showService},
		{"PATCH", "/v3/services/{id}", "identity:update_service", admin, a.updateService},
		{"DELETE", "/v3/services/{id}", "identity:delete_service", admin, a.deleteService},
		{"GET", "/v3/endpoints", "identity:list_endpoints", reader, a.listEndpoints},
		{"POST", "/v3/endpoints", "identity:create_endpoint", admin, a.createEndpoint},
		{"GET", "/v3/endpoints/{id}", "identity:get_endpoint", reader, a.showEndpoint},
		{"PATCH", "/v3/endpoints/{id}", "identity:update_endpoint", admin, a.updateEndpoint},
		{"DELETE", "/v3/endpoints/{id}", "identity:delete_endpoint", admin, a.deleteEndpoint},
		{"GET", "/v3/regions", "identity:list_regions", tokenHolder, a.listRegions},
		{"POST", "/v3/regions", "identity:create_region", admin, a.createRegion},
		{"PUT", "/v3/regions/{id}", "identity:create_region", admin, a.createRegion},
		{"GET", "/v3/regions/{id}", "identity:get_region", tokenHolder, a.showRegion},
		{"PATCH", "/v3/regions/{id}", "identity:update_region", admin, a.updateRegion},
		{"DELETE", "/v3/regions/{id}", "identity:delete_region", admin, a.deleteRegion},
	}
}
