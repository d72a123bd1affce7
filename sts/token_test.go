package sts

import (
	"testing"
)

func TestPassword(t *testing.T) {
	w := newWorld(t)
	a := w.ok(w.ropc(aliceName, alicePassword, aksScope))
	t.Log(a.raw)
	t.Log(claims(t, a.text("access_token")))
	t.Log(claims(t, a.text("id_token")))
	if err := w.verify(a.text("access_token")); err != nil {
		t.Fatal(err)
	}
	w.fails(w.ropc(aliceName, "x", aksScope), 50126)
	t.Log(w.log)
}
