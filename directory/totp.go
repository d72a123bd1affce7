package directory

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// What authenticator apps expect where nothing else is said: SHA-1, six digits, steps of 30 seconds (RFC 6238).
const (
	totpStep   = 30 // seconds
	totpDigits = 6
	totpSkew   = 1 // steps that a clock may be off, either way
	// TOTPSeedSize is the size of a seed in bytes: that of the hash's output (RFC 4226 section 4, R6).
	TOTPSeedSize = sha1.Size
)

// TOTPCode is the code of a seed at a time (RFC 6238 section 4.2).
func TOTPCode(seed []byte, at time.Time) string { return hotp(seed, at.Unix()/totpStep) }

// hotp is RFC 4226 section 5.3.
func hotp(seed []byte, counter int64) string {
	m := hmac.New(sha1.New, seed)
	binary.Write(m, binary.BigEndian, counter)
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	n := binary.BigEndian.Uint32(sum[at:at+4]) & 0x7fffffff
	return fmt.Sprintf("%0*d", totpDigits, n%1_000_000)
}

// totpMatch returns the step that a code is of, around a time; ok is false when it is of none. It takes as long for every code.
func totpMatch(seed []byte, code string, at time.Time) (step int64, ok bool) {
	now := at.Unix() / totpStep
	for s := now - totpSkew; s <= now+totpSkew; s++ {
		if subtle.ConstantTimeCompare([]byte(hotp(seed, s)), []byte(code)) == 1 {
			step, ok = s, true
		}
	}
	return step, ok
}

// TOTPText is a seed as people type it.
func TOTPText(seed []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(seed)
}

// TOTPURI is what the QR code of a seed says (Key Uri Format of authenticator apps).
func TOTPURI(seed []byte, issuer, account string) string {
	return "otpauth://totp/" + url.PathEscape(issuer+":"+account) + "?secret=" + TOTPText(seed) + "&issuer=" + strings.ReplaceAll(url.QueryEscape(issuer), "+", "%20") // some apps show a plus as it is
}
