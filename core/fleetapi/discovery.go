package fleetapi

import (
	"strings"
)

// The description of the API for programs, in the format of Google's discovery service,
// which the original's client library was made from. It is made of the table of routes.

type description struct {
	Kind             string                    `json:"kind"`
	DiscoveryVersion string                    `json:"discoveryVersion"`
	ID               string                    `json:"id"`
	Name             string                    `json:"name"`
	Version          string                    `json:"version"`
	Title            string                    `json:"title"`
	Description      string                    `json:"description"`
	Documentation    string                    `json:"documentationLink"`
	Protocol         string                    `json:"protocol"`
	BaseURL          string                    `json:"baseUrl"`
	BasePath         string                    `json:"basePath"`
	RootURL          string                    `json:"rootUrl"`
	ServicePath      string                    `json:"servicePath"`
	BatchPath        string                    `json:"batchPath"`
	Parameters       map[string]any            `json:"parameters"`
	Auth             map[string]any            `json:"auth"`
	Schemas          map[string]schema         `json:"schemas"`
	Resources        map[string]resourceMethod `json:"resources"`
}

type resourceMethod struct {
	Methods map[string]method `json:"methods"`
}

type method struct {
	ID             string            `json:"id"`
	Description    string            `json:"description"`
	HTTPMethod     string            `json:"httpMethod"`
	Path           string            `json:"path"`
	Parameters     map[string]schema `json:"parameters,omitempty"`
	ParameterOrder []string          `json:"parameterOrder,omitempty"`
	Request        *schema           `json:"request,omitempty"`
	Response       *schema           `json:"response,omitempty"`
}

type schema struct {
	Ref        string            `json:"$ref,omitempty"`
	ID         string            `json:"id,omitempty"`
	Type       string            `json:"type,omitempty"`
	Location   string            `json:"location,omitempty"`
	Required   bool              `json:"required,omitempty"`
	Enum       []string          `json:"enum,omitempty"`
	Items      *schema           `json:"items,omitempty"`
	Properties map[string]schema `json:"properties,omitempty"`
	Additional *schema           `json:"additionalProperties,omitempty"`
}

var text = schema{Type: "string"}

func ref(name string) *schema { return &schema{Ref: name} }

func listOf(name string) schema { return schema{Type: "array", Items: ref(name)} }

func object(id string, properties map[string]schema) schema {
	return schema{ID: id, Type: "object", Properties: properties}
}

// pageOf is a page of a list.
func pageOf(id, member, of string) schema {
	return object(id, map[string]schema{member: listOf(of), "nextPageToken": text})
}

func schemas() map[string]schema {
	state := schema{Type: "string", Enum: []string{"inactive", "loaded", "launched"}}
	return map[string]schema{
		"Machine": object("Machine", map[string]schema{
			"id": text, "primaryIP": text, "metadata": {Type: "object", Additional: &schema{Type: "string"}},
		}),
		"MachinePage": pageOf("MachinePage", "machines", "Machine"),
		"UnitOption":  object("UnitOption", map[string]schema{"section": text, "name": text, "value": text}),
		"Unit": object("Unit", map[string]schema{
			"name": text, "options": listOf("UnitOption"), "desiredState": state, "currentState": state,
			"machineID": {Type: "string", Required: true},
		}),
		"UnitPage": pageOf("UnitPage", "units", "Unit"),
		"UnitState": object("UnitState", map[string]schema{
			"name": text, "hash": text, "machineID": text,
			"systemdLoadState": text, "systemdActiveState": text, "systemdSubState": text,
		}),
		"UnitStatePage": pageOf("UnitStatePage", "states", "UnitState"),
	}
}

// described are the methods that the original's description has.
var described = []struct {
	route, resource, name string
	query                 []string
	request, response     string
}{
	{"GET /machines", "Machines", "List", []string{"nextPageToken"}, "", "MachinePage"},
	{"GET /units", "Units", "List", []string{"nextPageToken"}, "", "UnitPage"},
	{"GET /units/NAME", "Units", "Get", nil, "", "Unit"},
	{"DELETE /units/NAME", "Units", "Delete", nil, "", ""},
	{"PUT /units/NAME", "Units", "Set", nil, "Unit", ""},
	{"GET /state", "UnitState", "List", []string{"nextPageToken", "unitName", "machineID"}, "", "UnitStatePage"},
	{"GET /state/NAME", "UnitState", "Get", nil, "", "UnitState"},
}

func describe() description {
	d := description{
		Kind: "discovery#restDescription", DiscoveryVersion: "v1", ID: "fleet:v1", Name: "schema", Version: "v1", Title: "fleet API",
		Documentation: "https://github.com/keelson/keelson/blob/main/docs/units-api.md", Protocol: "rest",
		BaseURL: "$ENDPOINT/fleet/v1/", BasePath: "/fleet/v1/", RootURL: "$ENDPOINT/", ServicePath: "fleet/v1/", BatchPath: "batch",
		Parameters: map[string]any{}, Auth: map[string]any{}, Schemas: schemas(), Resources: make(map[string]resourceMethod),
	}
	docs := make(map[string]string)
	for _, r := range Routes() {
		docs[r.Method+" "+r.Path] = r.Doc
	}
	for _, m := range described {
		verb, path, _ := strings.Cut(m.route, " ")
		out := method{
			ID: "fleet." + strings.TrimSuffix(m.resource, "s") + "." + m.name, Description: docs[m.route], HTTPMethod: verb,
			Path: strings.Replace(path[1:], "NAME", "{unitName}", 1), Parameters: make(map[string]schema),
		}
		for _, q := range m.query {
			out.Parameters[q] = schema{Type: "string", Location: "query"}
		}
		if strings.Contains(out.Path, "{") {
			out.Parameters["unitName"] = schema{Type: "string", Location: "path", Required: true}
			out.ParameterOrder = []string{"unitName"}
		}
		if m.request != "" {
			out.Request = ref(m.request)
		}
		if m.response != "" {
			out.Response = ref(m.response)
		}
		if d.Resources[m.resource].Methods == nil {
			d.Resources[m.resource] = resourceMethod{make(map[string]method)}
		}
		d.Resources[m.resource].Methods[m.name] = out
	}
	return d
}

// discovery answers with the description, which is the same whatever happens.
func (c *call) discovery() {
	c.show(describe())
}
