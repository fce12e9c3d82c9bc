package metadefs

import (
	"slices"
	"time"

	"github.com/slipway-vm/slipway/launcher"
)

// Namespace is a set of definitions.
type Namespace struct {
	Name        string    `json:"namespace"`
	DisplayName string    `json:"display_name,omitempty"`
	Description string    `json:"description,omitempty"`
	Public      bool      `json:"public,omitempty"`
	Protected   bool      `json:"protected,omitempty"`
	Owner       string    `json:"owner"` // project
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`

	Associations []Association `json:"associations,omitempty"`
	Properties   []Property    `json:"properties,omitempty"`
	Objects      []Object      `json:"objects,omitempty"`
	Tags         []Tag         `json:"tags,omitempty"`
}

func (n Namespace) clone() Namespace {
	n.Associations, n.Properties = slices.Clone(n.Associations), slices.Clone(n.Properties)
	n.Objects, n.Tags = slices.Clone(n.Objects), slices.Clone(n.Tags)
	return n
}

// Association says that the properties are of a type of resources, where their names
// have a prefix.
type Association struct {
	Type    string    `json:"name"`
	Prefix  string    `json:"prefix,omitempty"`
	Target  string    `json:"properties_target,omitempty"`
	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}

// Object is a group of properties.
type Object struct {
	Name        string              `json:"name"`
	Description string              `json:"description,omitempty"`
	Required    []string            `json:"required,omitempty"`
	Properties  map[string]Property `json:"properties,omitempty"`
	Created     time.Time           `json:"created_at"`
	Updated     time.Time           `json:"updated_at"`
}

// Tag is a word that resources may be given.
type Tag struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}

// Property defines the values of a property, in JSON Schema's words.
type Property struct {
	Name            string   `json:"name,omitempty"`
	Title           string   `json:"title"`
	Description     string   `json:"description,omitempty"`
	Type            string   `json:"type"`
	Operators       []string `json:"operators,omitempty"`
	Required        []string `json:"required,omitempty"`
	Minimum         *float64 `json:"minimum,omitempty"`
	Maximum         *float64 `json:"maximum,omitempty"`
	MinLength       *uint32  `json:"minLength,omitempty"`
	MaxLength       *uint32  `json:"maxLength,omitempty"`
	Pattern         string   `json:"pattern,omitempty"`
	Enum            []any    `json:"enum,omitempty"`
	ReadOnly        *bool    `json:"readonly,omitempty"`
	Default         any      `json:"default,omitempty"`
	Items           *Items   `json:"items,omitempty"`
	MinItems        *uint32  `json:"minItems,omitempty"`
	MaxItems        *uint32  `json:"maxItems,omitempty"`
	UniqueItems     *bool    `json:"uniqueItems,omitempty"`
	AdditionalItems *bool    `json:"additionalItems,omitempty"`
}

// Items are those of a property that is a list.
type Items struct {
	Type string `json:"type,omitempty"`
	Enum []any  `json:"enum,omitempty"`
}

// Types are those that a property's values may have.
var Types = []string{"array", "boolean", "integer", "number", "object", "string"}

// Lengths of texts.
const (
	MaxName        = 80
	MaxDescription = 500
	MaxOwner       = 255
)

// Check finds what is wrong with a namespace. The error matches launcher.ErrInvalid.
func (n *Namespace) Check() error {
	if err := checkName("namespace", n.Name); err != nil {
		return err
	}
	for _, text := range []struct {
		field, value string
		most         int
	}{{"display_name", n.DisplayName, MaxName}, {"description", n.Description, MaxDescription}, {"owner", n.Owner, MaxOwner}} {
		if len([]rune(text.value)) > text.most {
			return launcher.Errorf(launcher.ErrInvalid, "%s may have %d characters.", text.field, text.most)
		}
	}
	for i := range n.Associations {
		if err := n.Associations[i].Check(); err != nil {
			return err
		}
	}
	for i := range n.Properties {
		if err := n.Properties[i].Check(); err != nil {
			return err
		}
	}
	for i := range n.Objects {
		if err := n.Objects[i].Check(); err != nil {
			return err
		}
	}
	for i := range n.Tags {
		if err := n.Tags[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

func checkName(field, name string) error {
	if name == "" || len([]rune(name)) > MaxName {
		return launcher.Errorf(launcher.ErrInvalid, "%s is required, and has at most %d characters.", field, MaxName)
	}
	return nil
}

// Check finds what is wrong with an association.
func (a *Association) Check() error {
	if len([]rune(a.Prefix)) > MaxName || len([]rune(a.Target)) > MaxName {
		return launcher.Errorf(launcher.ErrInvalid, "prefix and properties_target may have %d characters.", MaxName)
	}
	return checkName("name", a.Type)
}

// Check finds what is wrong with a tag.
func (t *Tag) Check() error { return checkName("name", t.Name) }

// Check finds what is wrong with an object.
func (o *Object) Check() error {
	if err := checkName("name", o.Name); err != nil {
		return err
	}
	for name, p := range o.Properties {
		p.Name = name
		if err := p.Check(); err != nil {
			return err
		}
	}
	return nil
}

// Check finds what is wrong with a property.
func (p *Property) Check() error {
	if err := checkName("name", p.Name); err != nil {
		return err
	}
	switch {
	case p.Title == "":
		return launcher.Errorf(launcher.ErrInvalid, "Property %s: 'title' is a required property", p.Name)
	case !slices.Contains(Types, p.Type):
		return launcher.Errorf(launcher.ErrInvalid, "Property %s: type '%s' is not one of %v", p.Name, p.Type, Types)
	case p.Items != nil && p.Items.Type != "" && !slices.Contains(Types, p.Items.Type):
		return launcher.Errorf(launcher.ErrInvalid, "Property %s: items' type '%s' is not one of %v", p.Name, p.Items.Type, Types)
	}
	return nil
}
