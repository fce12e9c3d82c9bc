package api

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// openAPIPath is where the API describes itself, in OpenAPI 3.1.
const openAPIPath = "/openapi.json"

// operation describes a request of the network's. The description that is served is
// made of the table that requests are routed by, and of the types of what is sent.
type operation struct {
	summary string
	query   []parameter
	body    any // of this type; nil: none
	answer  any // of this type; nil: nothing, or what media says
	// media is the answer's type where it is not JSON; of ndjson, answer is a line's.
	media string
	code  int // of success; 0: 200, or 204 where nothing is answered
	// upload is the body's type where that is no JSON.
	upload string
	// request is what the first message on a websocket holds; nil: none is sent.
	// Without answer and media the request is for a websocket.
	socket  bool
	request any
}

type parameter struct {
	name, about, typ string
	many             bool
}

const (
	ndjson = "application/x-ndjson"
	text   = "text/plain"
	octets = "application/octet-stream"
	// tarType is that of an archive.
	tarType = "application/x-tar"
)

var (
	allProjectsQuery = parameter{"all_projects", "those of every project; administrators only", "boolean", false}
	sinceQuery       = parameter{"since", "an RFC 3339 time", "string", false}
	untilQuery       = parameter{"until", "an RFC 3339 time", "string", false}
)

// serveOpenAPI needs no token.
func serveOpenAPI(w http.ResponseWriter, r *http.Request) error {
	doc, err := openAPI()
	if err != nil {
		return err
	}
	doc["servers"] = []object{{"url": openstack.BaseOf(r) + NetworkVersion}}
	return writeJSON(w, http.StatusOK, doc)
}

type object = map[string]any

// openAPI makes the description, without the service's address.
func openAPI() (object, error) {
	schemas, err := components()
	if err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	paths := object{}
	for _, r := range (&network{}).routes() {
		path, _ := paths["/"+strings.TrimPrefix(r.path, "/")].(object)
		if path == nil {
			path = object{}
			paths["/"+strings.TrimPrefix(r.path, "/")] = path
		}
		path[strings.ToLower(r.method)] = r.describe()
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Slipway", "version": "1",
			"description": "What OpenStack's APIs have no word for. A server is named by its ID, or by its name in the caller's project. Durations are in nanoseconds.",
		},
		"paths": paths,
		"components": object{
			"schemas": schemas,
			"securitySchemes": object{"token": object{
				"type": "apiKey", "in": "header", "name": openstack.TokenHeader, "description": "a token of Keystone's, scoped to a project",
			}},
		},
	}, nil
}

// describe is the route as an operation of OpenAPI.
func (r networkRoute) describe() object {
	o := object{"operationId": r.id(), "summary": r.about.summary}
	if r.role != "" {
		o["security"] = []object{{"token": []string{}}}
		o["description"] = "Takes the role " + r.role + " in the server's project."
	}
	var parameters []object
	if strings.Contains(r.path, "{server}") {
		parameters = append(parameters, inPath("server"))
	}
	if strings.Contains(r.path, "{network}") {
		parameters = append(parameters, inPath("network"))
	}
	for _, p := range r.about.query {
		schema := object{"type": p.typ}
		if p.many {
			schema = object{"type": "array", "items": schema}
		}
		parameters = append(parameters, object{"name": p.name, "in": "query", "description": p.about, "schema": schema})
	}
	if parameters != nil {
		o["parameters"] = parameters
	}
	if r.about.body != nil {
		o["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": ref(r.about.body)}}}
	}
	if r.about.upload != "" {
		o["requestBody"] = object{"required": true, "content": object{r.about.upload: object{}}}
	}
	code, answer := r.about.response()
	o["responses"] = object{
		strconv.Itoa(code): answer,
		"default":          object{"description": "a failure", "content": object{"application/json": object{"schema": ref(ErrorBody{})}}},
	}
	if r.about.socket {
		messages := object{}
		for m, name := range messageNames {
			messages[strconv.Itoa(m)] = name
		}
		socket := object{
			"subprotocol": ProcessProtocol, "messages": messages,
			"description": "Binary messages: a byte that says what it is, and data. The service ends with exit or error.",
		}
		if r.about.request != nil {
			socket["request"] = ref(r.about.request)
		}
		o["x-websocket"] = socket
	}
	return o
}

func inPath(name string) object {
	return object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}}
}

// messageNames are what the messages of a websocket hold.
var messageNames = []string{
	MessageRequest: "request, JSON", MessageStdout: "standard output", MessageStderr: "standard error", MessageExit: "exit, JSON",
	MessageError: "error, JSON", MessageStdin: "standard input; empty at its end", MessageResize: "resize, JSON: rows and columns",
	MessageSignal: "signal, JSON: a number", MessageDetach: "detach",
}

// response is the status of success, and what is answered with it.
func (o operation) response() (int, object) {
	switch {
	case o.media != "" && o.answer != nil:
		return http.StatusOK, object{"description": "JSON values, one to a line", "content": object{o.media: object{"schema": ref(o.answer)}}}
	case o.media != "":
		return http.StatusOK, object{"description": "the content", "content": object{o.media: object{"schema": object{"type": "string"}}}}
	case o.answer != nil:
		return cmp.Or(o.code, http.StatusOK), object{"description": "the answer", "content": object{"application/json": object{"schema": ref(o.answer)}}}
	case o.socket:
		return http.StatusSwitchingProtocols, object{"description": "a websocket"}
	}
	return http.StatusNoContent, object{"description": "done"}
}

// id names an operation by its method and path: getServersStats.
func (r networkRoute) id() string {
	id := strings.ToLower(r.method)
	for part := range strings.FieldsFuncSeq(r.path, func(c rune) bool { return c == '/' || c == '-' || c == '.' }) {
		if strings.HasPrefix(part, "{") {
			part = "one"
		}
		id += strings.ToUpper(part[:1]) + part[1:]
	}
	return id
}

// ref refers to the schema of a value's type.
func ref(v any) object {
	t := reflect.TypeOf(v)
	switch t.Kind() {
	case reflect.Slice:
		return object{"type": "array", "items": ref(reflect.Zero(t.Elem()).Interface())}
	case reflect.Map:
		return object{"type": "object"}
	}
	return object{"$ref": "#/components/schemas/" + t.Name()}
}

// components are the schemas of all types that are sent, by name.
func components() (map[string]*jsonschema.Schema, error) {
	all := map[string]*jsonschema.Schema{}
	text := &jsonschema.Schema{Type: "string"} // of types that marshal themselves
	options := &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[[]byte]():  {Type: "string", ContentEncoding: "base64"},
		reflect.TypeFor[v1.Hash](): text, reflect.TypeFor[netip.Addr](): text, reflect.TypeFor[netip.Prefix](): text,
		reflect.TypeFor[v1.Time](): {Type: "string", Format: "date-time"},
	}}
	add := func(v any) error {
		if v == nil {
			return nil
		}
		t := reflect.TypeOf(v)
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() == reflect.Map || all[t.Name()] != nil {
			return nil
		}
		s, err := jsonschema.ForType(t, options)
		all[t.Name()] = s
		return err
	}
	if err := add(ErrorBody{}); err != nil {
		return nil, err
	}
	for _, r := range (&network{}).routes() {
		for _, v := range []any{r.about.body, r.about.answer, r.about.request} {
			if err := add(v); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}
