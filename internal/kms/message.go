package kms

import (
	"encoding/binary"
	"errors"
)

// message is a protobuf message, as far as the protocol needs it: the values of its length-delimited fields, which are
// strings, bytes and messages, by their number. Fields of other kinds are none of ours and are passed over.
// https://protobuf.dev/programming-guides/encoding/
type message map[uint64][][]byte

// last returns a field's value; of several the last counts, none is nil.
func (m message) last(field uint64) []byte {
	if all := m[field]; len(all) > 0 {
		return all[len(all)-1]
	}
	return nil
}

// Wire types.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

var errMessage = errors.New("not a protobuf message")

func parse(b []byte) (message, error) {
	m := message{}
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 {
			return nil, errMessage
		}
		b = b[n:]
		var size uint64
		switch tag & 7 {
		case wireVarint:
			if _, n = binary.Uvarint(b); n <= 0 {
				return nil, errMessage
			}
			size = uint64(n)
		case wire64:
			size = 8
		case wire32:
			size = 4
		case wireBytes:
			if size, n = binary.Uvarint(b); n <= 0 {
				return nil, errMessage
			}
			b = b[n:]
		default:
			return nil, errMessage
		}
		if size > uint64(len(b)) {
			return nil, errMessage
		}
		if tag&7 == wireBytes {
			m[tag>>3] = append(m[tag>>3], b[:size:size])
		}
		b = b[size:]
	}
	return m, nil
}

// appendBytes adds a length-delimited field.
func appendBytes(b []byte, field uint64, value []byte) []byte {
	b = binary.AppendUvarint(b, field<<3|wireBytes)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}
