package kms

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"k8s.io/kms/apis/v2"
)

// FuzzParse compares what is read with what the generated code reads.
func FuzzParse(f *testing.F) {
	for _, m := range []proto.Message{
		&v2.EncryptResponse{Ciphertext: []byte{1, 2}, KeyId: "k", Annotations: map[string][]byte{"a": {1}, "b": nil}},
		&v2.EncryptResponse{},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add([]byte{0x08, 1, 0x0d, 1, 2, 3, 4, 0x09, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parse(b)
		want := new(v2.EncryptResponse)
		if proto.Unmarshal(b, want) != nil || err != nil {
			return // the generated code also knows groups, and checks UTF-8
		}
		if !bytes.Equal(got.last(1), want.Ciphertext) || string(got.last(2)) != want.KeyId {
			t.Errorf("read %q and %q, want %q and %q", got.last(1), got.last(2), want.Ciphertext, want.KeyId)
		}
	})
}
