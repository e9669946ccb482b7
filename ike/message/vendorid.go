package message

// VendorID is the Vendor ID payload (RFC 7296 §3.12).
type VendorID struct{ Data []byte }

func (*VendorID) Type() PayloadType { return TypeVendorID }

func (p *VendorID) appendBody(b []byte) []byte { return append(b, p.Data...) }
