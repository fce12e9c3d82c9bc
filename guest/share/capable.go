package share

// Capable is a file of the root that has capabilities which the root mode does not
// pass on: the content of CapableFile is a list of them.
type Capable struct {
	Path  []byte `json:"path"`  // from the root
	Value []byte `json:"value"` // of the attribute CapabilityAttr
}

// CapabilityAttr is where Linux keeps the capabilities of a file.
const CapabilityAttr = "security.capability"
