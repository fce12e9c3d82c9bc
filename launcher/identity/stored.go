package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/slipway-vm/slipway/launcher/records"
)

// StoredCredential is a secret that a user keeps here for something else, such as the
// key pair of EC2's API.
type StoredCredential struct {
	ID      string `json:"id"` // of TypeEC2 the digest of the access key
	Type    string `json:"type"`
	Blob    string `json:"blob"`
	User    string `json:"user"`              // ID
	Project string `json:"project,omitempty"` // ID
}

// TypeEC2 is the type of a key pair of EC2's API, an [EC2Blob].
const TypeEC2 = "ec2"

// EC2Blob is the blob of a credential of TypeEC2.
type EC2Blob struct {
	Access string `json:"access"`
	Secret string `json:"secret"`
}

// EC2ID is the ID of the credential with an access key.
func EC2ID(access string) string {
	sum := sha256.Sum256([]byte(access))
	return hex.EncodeToString(sum[:])
}

// NewEC2Blob makes a key pair.
func NewEC2Blob() EC2Blob { return EC2Blob{newID(), newID()} }

// String is the pair as it is stored.
func (b EC2Blob) String() string {
	text, _ := json.Marshal(b) // of strings alone
	return string(text)
}

// StoredCredential returns one by its ID.
func (d *Directory) StoredCredential(id string) (StoredCredential, error) {
	return show(d, &d.stored, "credential", id)
}

// StoredCredentials lists those that pass, by their IDs.
func (d *Directory) StoredCredentials(pass func(StoredCredential) bool) []StoredCredential {
	return list(d, &d.stored, pass, func(c StoredCredential) string { return c.ID })
}

// checkStored refuses what Keystone does; d.mu is held.
func (d *Directory) checkStored(c StoredCredential) error {
	if c.Type == "" || c.Blob == "" {
		return invalid("Invalid input for field 'credential': type and blob are required properties.")
	}
	if _, ok := d.users.Rows[c.User]; !ok {
		return notFound("user", c.User)
	}
	if _, ok := d.projects.Rows[c.Project]; c.Project != "" && !ok {
		return notFound("project", c.Project)
	}
	if c.Type != TypeEC2 {
		return nil
	}
	var blob EC2Blob
	if err := json.Unmarshal([]byte(c.Blob), &blob); err != nil || blob.Access == "" {
		return invalid("Invalid blob in credential: it is no JSON object with access and secret.")
	}
	if c.Project == "" {
		return invalid("project_id is required for ec2 credentials.")
	}
	return nil
}

// CreateStoredCredential keeps a credential, and gives it an ID.
func (d *Directory) CreateStoredCredential(ctx context.Context, c StoredCredential) (StoredCredential, error) {
	err := d.change(ctx, func(tx *records.Tx) error {
		if err := d.checkStored(c); err != nil {
			return err
		}
		c.ID = newID()
		if c.Type == TypeEC2 {
			var blob EC2Blob
			_ = json.Unmarshal([]byte(c.Blob), &blob) // it was checked
			c.ID = EC2ID(blob.Access)
		}
		if _, taken := d.stored.Rows[c.ID]; taken {
			return duplicate("credential", c.ID, d.users.Rows[c.User].DomainID)
		}
		return records.Put(tx, &d.stored, c.ID, c)
	})
	return c, err
}

// UpdateStoredCredential changes a credential; its ID stays.
func (d *Directory) UpdateStoredCredential(ctx context.Context, id string, change func(*StoredCredential) error) (StoredCredential, error) {
	var c StoredCredential
	err := d.change(ctx, func(tx *records.Tx) error {
		var ok bool
		if c, ok = d.stored.Rows[id]; !ok {
			return notFound("credential", id)
		}
		if err := change(&c); err != nil {
			return err
		}
		if err := d.checkStored(c); err != nil {
			return err
		}
		return records.Put(tx, &d.stored, id, c)
	})
	return c, err
}

// DeleteStoredCredentials removes credentials by their IDs.
func (d *Directory) DeleteStoredCredentials(ctx context.Context, ids ...string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		records.DropAll(tx, &d.stored, func(c StoredCredential) bool { return slices.Contains(ids, c.ID) })
		return nil
	})
}

// RolesOn are the roles that a user has on a project.
func (d *Directory) RolesOn(user, project string) []Role {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.rolesOn(user, project)
}
