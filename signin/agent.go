package signin

import "strings"

// agents are the browsers whose names are worth more than what they claim to be compatible with, the most telling first.
var agents = []struct{ product, name string }{
	{"Edg/", "Edge"}, {"EdgA/", "Edge"}, {"EdgiOS/", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Browser"},
	{"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"HeadlessChrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Chrome/", "Chrome"},
}

// systems are operating systems, by what a User-Agent says of them.
var systems = []struct{ text, name string }{
	{"windows", "Windows"}, {"iphone", "iOS"}, {"ipad", "iOS"}, {"android", "Android"}, {"mac os", "MacOs"}, {"macos", "MacOs"}, {"darwin", "MacOs"},
	{"cros", "ChromeOS"}, {"linux", "Linux"},
}

// Device reads what a User-Agent says: the browser, or the program, with its version, and the operating system. It is what the client
// claims, and nothing is decided by it.
func Device(userAgent string) (browser, system string) {
	userAgent = printable(userAgent)
	lower := strings.ToLower(userAgent)
	for _, s := range systems {
		if strings.Contains(lower, s.text) {
			system = s.name
			break
		}
	}
	for _, a := range agents {
		if _, rest, ok := strings.Cut(userAgent, a.product); ok {
			return a.name + " " + version(rest), system
		}
	}
	if _, rest, ok := strings.Cut(userAgent, "Version/"); ok && strings.Contains(userAgent, "Safari/") {
		return "Safari " + version(rest), system
	}
	product, _, _ := strings.Cut(userAgent, " ")
	name, v, _ := strings.Cut(product, "/")
	return strings.TrimSpace(clip(name) + " " + version(v)), system
}

func version(text string) string {
	end := strings.IndexFunc(text, func(r rune) bool { return r == ' ' || r == ';' || r == ')' })
	if end >= 0 {
		text = text[:end]
	}
	return clip(text)
}

func clip(s string) string { return s[:min(len(s), 40)] }

// printable keeps the printable ASCII of the first 256 bytes.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, s[:min(len(s), 256)])
}

// UserAgent is as much of a User-Agent as an entry keeps.
func UserAgent(s string) string { return printable(s) }
