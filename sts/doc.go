// Package sts is the identity provider: discovery, keys, sign-in, tokens.
package sts
