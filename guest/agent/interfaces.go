package agent

import (
	"context"
	"fmt"

	"github.com/slipway-vm/slipway/guest/share"
)

// SetInterfaces has the guest set up interfaces that it was given while it runs; one
// without a name keeps the kernel's. The error matches ErrUnsupported with a guest that
// has no such call.
func (c *Client) SetInterfaces(ctx context.Context, all []share.Interface) error {
	if err := c.call(ctx, methodLinks, interfacesParams{all}, nil); err != nil {
		return fmt.Errorf("set up the guest's interfaces: %w", err)
	}
	return nil
}
