// Package fleetapi is the units API: /fleet/v1 over the registry.
package fleetapi
