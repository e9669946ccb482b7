package suite

// ESN carries the high half of an extended sequence number into the integrity
// check of an ESP packet (RFC 4303 §2.2.1). The zero value means 32-bit numbers.
type ESN struct {
	On   bool
	High uint32
}

// Cipher protects packets in place, for ESP and for the SK payload alike. It is
// either an AEAD or a cipher with a separate MAC over the ciphertext. A packet is
// one slice, laid out as
//
//	head | IV (IVLen octets) | text | ICV (ICVLen octets)
//
// where the head is authenticated and not encrypted: 8 octets (SPI and low
// sequence number) in ESP (RFC 4303 §2), all octets from the IKE header to the end
// of the SK payload's own header in IKE (RFC 7296 §3.14, RFC 5282 §5.1). With
// ESN on, the head is ESP's, and the high half is authenticated where the RFCs
// put it: between SPI and sequence number for an AEAD (RFC 4106 §5), behind the
// ciphertext for a separate MAC (RFC 4303 §2.2.1).
//
// A Cipher belongs to one goroutine: it has its scratch memory inside, so that
// neither direction allocates.
type Cipher interface {
	// IVLen, ICVLen are the octets that a packet needs beside its text.
	IVLen() int
	ICVLen() int
	// BlockLen is the length in octets of which the text must be a multiple; 1 for
	// AEADs and counter modes.
	BlockLen() int
	// Seal encrypts pkt's text in place and writes IV and ICV. iv must never
	// repeat under one key; the counter modes send it as it is, CBC sends an
	// unpredictable value derived from it.
	Seal(pkt []byte, head int, iv uint64, esn ESN)
	// Open checks the ICV, decrypts in place and returns the text, a part of pkt.
	// On error (too short, not a multiple of BlockLen, wrong ICV) pkt's text is
	// unspecified and must not be used.
	Open(pkt []byte, head int, esn ESN) ([]byte, error)
}
