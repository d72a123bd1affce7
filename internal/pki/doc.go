// Package pki keeps the private certificate authorities, each for one use, and what they issue.
//
// An authority is two files in a directory that belongs to Gatehouse alone:
//
//	DIR/NAME.key   ECDSA P-256, PKCS #8, mode 0600
//	DIR/NAME.crt   self-signed, ten years, may sign leaf certificates only (path length 0)
//
// The key is written first, so the certificate says that the pair is whole:
//
//	key  cert
//	 -    -    first start: both are made
//	 +    -    a start that was cut off: nobody ever trusted this key, both are made again
//	 -    +    an error: the key was lost
//	 +    +    loaded, if they belong together and promise the constraints that the caller asks for
//
// A running server needs no other copy of an authority's key and hands none out: callers get
// certificates issued. Keys and serial numbers come from crypto/rand, which since Go 1.26 is the only
// source the key generators accept; time is Authority.Now.
package pki
