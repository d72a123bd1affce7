package arm

import (
	"net/http"
	"strings"
)

// verbs are the last piece of the action that a method stands for (Azure resource provider operations). A POST names
// its own action in the path.
var verbs = map[string]string{
	http.MethodGet: "read", http.MethodHead: "read",
	http.MethodPut: "write", http.MethodPatch: "write",
	http.MethodDelete: "delete",
}

// question says what a request asks to do and at which scope. It is the one place where method and path become an
// action:
//
//	GET  /subscriptions/S/resourceGroups/G                               Microsoft.Resources/subscriptions/resourceGroups/read at the group
//	PUT  /subscriptions/S/resourceGroups/G/providers/NS/type/N           NS/type/write at the resource
//	GET  /subscriptions/S/providers/NS/type                              NS/type/read at the subscription
//	POST /subscriptions/S/resourceGroups/G/providers/NS/type/N/doThis    NS/type/doThis/action at the resource
//
// Segments are in turn a type and a name, so a resource that has the name "providers" misleads nobody.
func question(method string, segments []string) (action, scope string) {
	namespace, types, end := "Microsoft.Resources", []string(nil), 0
	for i := 0; i < len(segments); i += 2 {
		s, last := segments[i], i+1 == len(segments)
		isProviders := strings.EqualFold(s, "providers") && namespace != "Microsoft.Features" // which has a type of this name
		switch {
		case isProviders && i+2 < len(segments):
			namespace, types, end = segments[i+1], nil, i
		case isProviders: // the namespaces themselves
			types = append(types, s)
		case last && method == http.MethodPost:
			types = append(types, s, "action")
		case last: // a collection
			types = append(types, s)
		default:
			types, end = append(types, s), i+2
		}
	}
	action = namespace + "/" + strings.Join(types, "/")
	if method != http.MethodPost {
		action += "/" + verbs[method]
	}
	return action, "/" + strings.Join(segments[:end], "/")
}
