// Package gatehouse is the root of the module; its tests hold the rules of the house.
package gatehouse
