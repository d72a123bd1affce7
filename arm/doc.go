// Package arm is Azure Resource Manager: the REST face of subscriptions, resource groups and resources.
//
// Every request takes the same way, in Server.serve, and a resource provider such as package aks supplies only what is
// its own:
//
//	bearer token ─▶ caller ─▶ api-version ─▶ method and path as action and scope ─▶ subscription ─▶ rbac.Check ─▶ handler ─▶ audit
//
//	GET    /tenants                                       those who sign in; each sees their own
//	GET    /subscriptions[/{s}[/locations]]
//	GET    /subscriptions/{s}/providers[/{namespace}]     POST .../register
//	*      /subscriptions/{s}/resourceGroups[/{g}]        PUT GET HEAD PATCH DELETE
//	GET    /subscriptions/{s}[/resourceGroups/{g}]/resources
//	GET    /subscriptions/{s}/operationresults/{id}       of resource groups
//	GET    /subscriptions/{s}/providers/{namespace}/locations/{l}/operations|operationresults/{id}
//	GET    /metadata/endpoints                            open to everybody
//
// Long-running operations are records, so they survive a crash:
//
//	InProgress ─▶ Succeeded | Failed | Canceled     readable for an hour after their end
package arm
