package directory

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

// ID is the object id of anything in the directory: a GUID, made by the server and never used again.
// As text it is always in lower case.
type ID [16]byte

// ParseID reads a GUID in the usual form of 8-4-4-4-12 hexadecimal digits, in any letter case.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, fault.New(fault.Invalid, "%q is not a GUID; give one like 00000000-0000-0000-0000-000000000000", s)
	}
	digits := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return ID{}, fault.New(fault.Invalid, "%q is not a GUID; give one like 00000000-0000-0000-0000-000000000000", s)
	}
	return id, nil
}

// MustParseID is ParseID for constants of the program.
func MustParseID(s string) ID {
	id, err := ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// NewID makes a random id (RFC 9562 section 5.4, version 4).
func NewID(random io.Reader) (ID, error) {
	var id ID
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return ID{}, fmt.Errorf("make an object id: %w", err)
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id, nil
}

// IsZero reports whether the id is unset.
func (id ID) IsZero() bool { return id == ID{} }

func (id ID) String() string {
	b, _ := id.AppendText(make([]byte, 0, 36))
	return string(b)
}

// AppendText appends the usual form.
func (id ID) AppendText(b []byte) ([]byte, error) {
	b = hex.AppendEncode(b, id[0:4])
	for _, piece := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:16]} {
		b = append(b, '-')
		b = hex.AppendEncode(b, piece)
	}
	return b, nil
}

// MarshalText makes the usual form.
func (id ID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText reads what ParseID reads; empty text is the zero id.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ID{}
		return nil
	}
	parsed, err := ParseID(string(text))
	*id = parsed
	return err
}

// Compare orders ids by their bytes.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }
