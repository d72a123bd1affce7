package sts

import (
	"fmt"
	"image/color"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// qrMargin is the quiet zone that readers need around a code, in modules (ISO/IEC 18004 section 9.1).
const qrMargin = 4

// qrView is a QR code as an SVG draws it: Path within a square of Size modules.
type qrView struct {
	Size int
	Path string
}

// qrOf draws a text as a QR code.
func qrOf(text string) (*qrView, error) {
	code, err := qr.Encode(text, qr.M, qr.Unicode)
	if err != nil {
		return nil, fmt.Errorf("make a QR code: %w", err)
	}
	size := code.Bounds().Dx()
	var path strings.Builder
	for y := range size {
		for x := 0; x < size; x++ {
			from := x
			for x < size && code.At(x, y) == color.Black {
				x++
			}
			if x > from {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", from+qrMargin, y+qrMargin, x-from, x-from)
			}
		}
	}
	return &qrView{Size: size + 2*qrMargin, Path: path.String()}, nil
}
