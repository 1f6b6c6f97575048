package main

// place is the scope of an object and, as far as the object has them, its namespace and name.
type place struct {
	Scope     string `json:"scope"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// context returns the byte of the scope, and ctx.
func (p place) context() (byte, []byte, error) {
	var scope byte
	namespace, name := p.Namespace, p.Name
	switch p.Scope {
	case "strict":
	case "namespace-wide":
		scope, name = 1, ""
	case "cluster-wide":
		scope, namespace, name = 2, "", ""
	default:
		return 0, nil, scopeMismatch
	}
	if scope < 2 && namespace == "" || scope == 0 && name == "" {
		return 0, nil, scopeMismatch
	}
	return scope, join(domain("ctx"), []byte{scope}, lp(namespace), lp(name)), nil
}

// placeOf returns the 16 bytes that represent ctx in a header.
func placeOf(ctx []byte) []byte { return digest(ctx)[:16] }
