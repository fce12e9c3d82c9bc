package glance

import (
	"maps"

	"github.com/slipway-vm/slipway/launcher/metadefs"
)

func schemaOf(name string, required []string, properties map[string]any) map[string]any {
	return map[string]any{"name": name, "properties": properties, "required": required, "additionalProperties": false}
}

func limited(most int, description string) map[string]any {
	return map[string]any{"type": "string", "maxLength": most, "description": description}
}

func arrayOf(items map[string]any, description string) map[string]any {
	return map[string]any{"type": "array", "items": items, "description": description}
}

func dictOf(values map[string]any, description string) map[string]any {
	return map[string]any{"type": "object", "additionalProperties": values, "description": description}
}

var (
	aString  = map[string]any{"type": "string"}
	aCount   = map[string]any{"type": "integer", "minimum": 0}
	aNumber  = map[string]any{"type": "number"}
	aBoolean = map[string]any{"type": "boolean"}
	aType    = map[string]any{"type": "string", "enum": metadefs.Types}
)

// definition are the members of a property, but for its name.
var definition = map[string]any{
	"title": limited(metadefs.MaxName, "Name of the property for people"), "description": property("string", "What the property means"),
	"type": aType, "operators": arrayOf(aString, "Operators that values may begin with"), "required": arrayOf(aString, "Members that values need"),
	"minimum": aNumber, "maximum": aNumber, "minLength": aCount, "maxLength": aCount, "pattern": aString,
	"enum": map[string]any{"type": "array"}, "readonly": aBoolean, "default": map[string]any{},
	"items":    map[string]any{"type": "object", "properties": map[string]any{"type": aType, "enum": map[string]any{"type": "array"}}},
	"minItems": aCount, "maxItems": aCount, "uniqueItems": aBoolean, "additionalItems": aBoolean,
}

var (
	propertySchema   = schemaOf("property", []string{"name", "title", "type"}, with(definition, "name", limited(metadefs.MaxName, "Name of the property")))
	unnamed          = map[string]any{"type": "object", "required": []string{"title", "type"}, "properties": definition}
	propertiesSchema = map[string]any{"name": "properties", "properties": map[string]any{"properties": dictOf(unnamed, "Properties by name")}}
)

func with(m map[string]any, name string, value any) map[string]any {
	m = maps.Clone(m)
	m[name] = value
	return m
}

// kept are the members that the service alone sets.
func kept(m map[string]any, links bool) map[string]any {
	names := []string{"created_at", "updated_at"}
	if links {
		names = append(names, "self", "schema")
	}
	for _, name := range names {
		m[name] = map[string]any{"type": "string", "readOnly": true}
	}
	return m
}

var tagSchema = schemaOf("tag", []string{"name"}, kept(map[string]any{"name": limited(metadefs.MaxName, "The tag")}, false))

var associationSchema = schemaOf("resource_type_association", []string{"name"}, kept(map[string]any{
	"name":              limited(metadefs.MaxName, "Type of resources"),
	"prefix":            limited(metadefs.MaxName, "What the names of properties begin with at such a resource"),
	"properties_target": limited(metadefs.MaxName, "Which of the resource's properties are meant"),
}, false))

var objectSchema = schemaOf("object", []string{"name"}, kept(map[string]any{
	"name":        limited(metadefs.MaxName, "Name of the object"),
	"description": property("string", "What the properties have in common"),
	"required":    arrayOf(aString, "Properties that a resource needs"),
	"properties":  dictOf(unnamed, "Properties by name"),
}, true))

var namespaceSchema = schemaOf("namespace", []string{"namespace"}, kept(map[string]any{
	"namespace":                  limited(metadefs.MaxName, "Name of the namespace"),
	"display_name":               limited(metadefs.MaxName, "Name of the namespace for people"),
	"description":                limited(metadefs.MaxDescription, "What the namespace is about"),
	"visibility":                 map[string]any{"type": "string", "enum": []string{"public", "private"}, "description": "Who can see the namespace"},
	"protected":                  property("boolean", "Whether the namespace cannot be deleted"),
	"owner":                      limited(metadefs.MaxOwner, "Project that owns the namespace"),
	"resource_type_associations": arrayOf(inside(associationSchema), "Types of resources that the properties are of"),
	"properties":                 dictOf(unnamed, "Properties by name"),
	"objects":                    arrayOf(inside(objectSchema), "Groups of properties"),
	"tags":                       arrayOf(inside(tagSchema), "Words that resources may be given"),
}, true))

// inside is a schema as that of a list's items.
func inside(schema map[string]any) map[string]any {
	return map[string]any{"type": "object", "properties": schema["properties"]}
}
