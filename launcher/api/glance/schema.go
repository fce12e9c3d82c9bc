package glance

import (
	"net/http"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

func showSchema(schema map[string]any) openstack.Func {
	return func(w http.ResponseWriter, _ *http.Request) error {
		return openstack.WriteJSON(w, http.StatusOK, schema)
	}
}

func property(kind any, description string) map[string]any {
	return map[string]any{"type": kind, "description": description}
}

func oneOf(description string, values ...any) map[string]any {
	return map[string]any{"type": []string{"null", "string"}, "enum": values, "description": description}
}

var nullable = []string{"null", "string"}

var imageSchema = map[string]any{
	"name": "image",
	"properties": map[string]any{
		"id":               map[string]any{"type": "string", "description": "An identifier for the image", "pattern": "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"},
		"name":             property(nullable, "Descriptive name for the image"),
		"status":           oneOf("Status of the image", "queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete", "deactivated"),
		"visibility":       oneOf("Who can see the image", "community", "public", "private", "shared"),
		"protected":        property("boolean", "Whether the image cannot be deleted"),
		"os_hidden":        property("boolean", "Whether the image is left out of lists"),
		"checksum":         property(nullable, "MD5 of the image's data"),
		"os_hash_algo":     property(nullable, "Algorithm of os_hash_value"),
		"os_hash_value":    property(nullable, "Digest of the image's data; of what a registry has it is known once that was downloaded"),
		"owner":            property(nullable, "Project that owns the image"),
		"size":             property([]string{"null", "integer"}, "Size of the image's data, or of its layers in a registry, in bytes"),
		"virtual_size":     property([]string{"null", "integer"}, "Virtual size of the image in bytes"),
		"container_format": oneOf("Format of the container", formats(containerFormats)...),
		"disk_format":      oneOf("Format of the disk", formats(diskFormats)...),
		"created_at":       property("string", "When the image was made or pulled"),
		"updated_at":       property("string", "When the image last changed"),
		"tags":             map[string]any{"type": "array", "items": map[string]any{"type": "string", "maxLength": 255}, "description": "Words that describe the image"},
		"min_ram":          property("integer", "Memory that a server needs, in MiB"),
		"min_disk":         property("integer", "Disk that a server needs, in GiB"),
		"self":             property("string", "Path of the image"),
		"file":             property("string", "Path of the image's data"),
		"schema":           property("string", "Path of this schema"),
		"architecture":     property("string", "Processor that the image is for"),
	},
	"additionalProperties": map[string]any{"type": "string"},
	"links": []map[string]string{
		{"rel": "self", "href": "{self}"}, {"rel": "enclosure", "href": "{file}"}, {"rel": "describedby", "href": "{schema}"},
	},
}

var imagesSchema = map[string]any{
	"name": "images",
	"properties": map[string]any{
		"images": map[string]any{"type": "array", "items": imageSchema},
		"first":  property("string", "Path of the first page"),
		"next":   property("string", "Path of the next page"),
		"schema": property("string", "Path of this schema"),
	},
	"links": []map[string]string{
		{"rel": "first", "href": "{first}"}, {"rel": "next", "href": "{next}"}, {"rel": "describedby", "href": "{schema}"},
	},
}

func formats(names []string) []any {
	all := []any{nil}
	for _, name := range names {
		all = append(all, name)
	}
	return all
}

var memberSchema = map[string]any{
	"name": "member",
	"properties": map[string]any{
		"member_id":  property("string", "Project that the image is shared with"),
		"image_id":   property("string", "The image"),
		"status":     map[string]any{"type": "string", "enum": []string{"pending", "accepted", "rejected"}, "description": "What the project says to it"},
		"created_at": property("string", "When the image was shared"),
		"updated_at": property("string", "When the member last changed"),
		"schema":     property("string", "Path of this schema"),
	},
}

var taskSchema = map[string]any{
	"name": "task",
	"properties": map[string]any{
		"id":         property("string", "An identifier for the task"),
		"type":       map[string]any{"type": "string", "enum": []string{"api_image_import"}, "description": "What the task does"},
		"status":     map[string]any{"type": "string", "enum": []string{"pending", "processing", "success", "failure"}, "description": "How far the task is"},
		"input":      property([]string{"null", "object"}, "What the task was asked for"),
		"result":     property([]string{"null", "object"}, "What came of it"),
		"owner":      property("string", "Project that began the task"),
		"message":    property("string", "Why the task failed"),
		"expires_at": property([]string{"null", "string"}, "When the task is forgotten"),
		"created_at": property("string", "When the task was begun"),
		"updated_at": property("string", "When the task last changed"),
		"self":       property("string", "Path of the task"),
		"schema":     property("string", "Path of this schema"),
	},
}

func listOf(name string, of map[string]any) map[string]any {
	return map[string]any{"name": name, "properties": map[string]any{
		name: map[string]any{"type": "array", "items": of}, "schema": property("string", "Path of this schema"),
	}}
}

// schemas are those that there are, by their names.
var schemas = map[string]map[string]any{
	"image": imageSchema, "images": imagesSchema, "member": memberSchema, "members": listOf("members", memberSchema),
	"task": taskSchema, "tasks": listOf("tasks", taskSchema),
	"metadefs/namespace": namespaceSchema, "metadefs/namespaces": listOf("namespaces", namespaceSchema),
	"metadefs/object": objectSchema, "metadefs/objects": listOf("objects", objectSchema),
	"metadefs/property": propertySchema, "metadefs/properties": propertiesSchema,
	"metadefs/tag": tagSchema, "metadefs/tags": listOf("tags", tagSchema),
	"metadefs/resource_type": associationSchema, "metadefs/resource_types": listOf("resource_type_associations", associationSchema),
}
